//! An S3 server: `moto` (PyPI `moto[server]`), one for all tests.

use std::sync::OnceLock;

use super::peer_process::{PeerProcess, python};

/// Its base URL.
pub fn url() -> &'static str {
    static MOTO: OnceLock<PeerProcess> = OnceLock::new();
    let start = || {
        PeerProcess::start(
            "moto",
            "PyPI moto[server]",
            &python(),
            &[
                "-c",
                "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])",
            ],
        )
    };
    &MOTO.get_or_init(start).url
}

/// Makes a bucket of its own for a test and returns its name.
pub async fn bucket() -> String {
    let name = format!("bucket-{}", uuid::Uuid::new_v4().simple());
    let url = format!("{}/{name}", url_off_the_runtime().await);
    let answer = reqwest::Client::new()
        .put(url)
        .header("authorization", AUTHORIZATION)
        .send()
        .await
        .unwrap();
    assert!(
        answer.status().is_success(),
        "moto made no bucket: {}",
        answer.text().await.unwrap()
    );
    name
}

/// moto reads the region of a request in its (otherwise unchecked) signature.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                             SignedHeaders=host, Signature=0";

/// Asks the server something that the product has no operation for.
pub async fn get(path_and_query: &str) -> String {
    let url = format!("{}/{path_and_query}", url_off_the_runtime().await);
    reqwest::Client::new()
        .get(url)
        .header("authorization", AUTHORIZATION)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

async fn url_off_the_runtime() -> &'static str {
    tokio::task::spawn_blocking(url).await.unwrap()
}
