//! Checksums, and stores that know none.

use std::sync::Arc;

use base64::Engine;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::s3::S3Backend;
use tokio_util::sync::CancellationToken;

use super::{backend, target};
use crate::storage_cloud::{file, noise, outbound, range, read, source, storage_config};
use crate::support::moto;

#[tokio::test]
async fn checksums_of_whole_objects_are_passed_on() {
    let (backend, bucket) = (backend().await, moto::bucket().await);
    let hex = crate::support::hub::sha256(b"checked");
    let digest: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let request = reqwest::Client::new()
        .put(format!("{}/{bucket}/x", moto::url()))
        .header("x-amz-sdk-checksum-algorithm", "SHA256");
    let request = request
        .header(
            "x-amz-checksum-sha256",
            base64::engine::general_purpose::STANDARD.encode(digest),
        )
        .body("checked");
    assert!(request.send().await.unwrap().status().is_success());
    assert_eq!(
        backend
            .head(&source(&format!("s3://{bucket}/x")))
            .await
            .unwrap()
            .sha256
            .as_deref(),
        Some(hex.as_str())
    );
}

/// F08: a store that refuses what it does not know is asked again without, and not a second time
/// with it.
#[tokio::test]
async fn stores_that_know_no_checksums_are_asked_without_them() {
    use crate::support::origin::{Origin, Reply};
    for (status, code) in [
        (400, "InvalidArgument"),
        (501, "NotImplemented"),
        (400, "UnsupportedHeader"),
    ] {
        let body = Arc::new(noise(1000));
        let origin = Origin::start(move |request, _| {
            let new = request.headers.keys().any(|name| name.contains("checksum"));
            if new || request.target.contains("checksum") {
                let words = format!(
                    "<Error><Code>{code}</Code><Message>Unsupported header \
                     'x-amz-checksum-mode'</Message></Error>"
                );
                let body = if request.method == "HEAD" {
                    String::new()
                } else {
                    words
                };
                return Reply {
                    status,
                    ..Reply::ok(body)
                };
            }
            match request.method.as_str() {
                "PUT" => Reply::status(200).with("ETag", "\"p\""),
                "POST" if request.target.contains("uploads") => Reply::ok(
                    "<InitiateMultipartUploadResult><UploadId>u</UploadId></\
                     InitiateMultipartUploadResult>",
                ),
                "POST" => {
                    Reply::ok("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
                }
                _ => Reply::file(request, &body, "\"v\""),
            }
        })
        .await;
        let endpoint = origin.url("");
        let variables = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "marked"),
        ];
        let backend = S3Backend::new(&storage_config(&variables).s3, outbound(&variables));
        let object = source("s3://bucket/key");
        let stream = backend.open(&object, None, None).await.unwrap();
        assert_eq!(read(stream).await, noise(1000));
        assert_eq!(origin.requests().len(), 2, "{code}");
        backend.head(&object).await.unwrap();
        assert_eq!(
            read(backend.open(&object, range(1, 9), None).await.unwrap())
                .await
                .len(),
            9
        );
        assert_eq!(origin.requests().len(), 4, "remembered");
        let directory = tempfile::tempdir().unwrap();
        for size in [10, 17 << 20] {
            let outgoing = file(directory.path(), "x", &vec![1; size]);
            let cancel = CancellationToken::new();
            backend
                .upload(&target("bucket", ""), &outgoing, None, &cancel)
                .await
                .unwrap();
        }
    }
}
