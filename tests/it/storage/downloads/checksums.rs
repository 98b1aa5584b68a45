//! Checksums that were promised, objects of stores, and content that is compressed unasked.

use std::sync::Arc;

use comfyui_api::storage::Auth;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content};

#[tokio::test]
async fn a_promised_checksum_is_checked() {
    // SHA-256 of "hello".
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let origin = Origin::start(move |request, _| {
        let body = if request.target.contains("good") {
            "hello"
        } else {
            "hellO"
        };
        Reply::ok(body).with("X-Linked-Etag", format!("\"{sum}\""))
    })
    .await;
    let bench = Bench::new(&[]).await;
    let good = bench.get(&origin.url("/good.bin")).await.unwrap();
    assert!(
        std::fs::read_to_string(format!("{}.meta", good.path.display()))
            .unwrap()
            .contains(sum)
    );
    let error = bench.get(&origin.url("/bad.bin")).await.unwrap_err();
    assert!(error.message.contains(sum), "{error}");
    assert_eq!(bench.names().len(), 2);
}

/// `hello`, and what object stores say of it.
const HELLO: [(&str, &str); 3] = [
    ("x-amz-checksum-crc32", "NhCmhg=="),
    ("x-amz-checksum-crc32c", "mnG7TA=="),
    ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
];

fn s3(endpoint: &str) -> Auth {
    serde_json::from_value(serde_json::json!({
        "type": "s3",
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "eu-1",
        "endpoint": endpoint
    }))
    .unwrap()
}

#[tokio::test]
async fn the_checksums_of_object_stores_are_checked() {
    for (header, sum) in HELLO {
        // Wrong on the way once, then as it is.
        let origin = Origin::start(move |_, before| {
            Reply::ok(if before == 0 { "hellO" } else { "hello" })
                .with("ETag", "\"e\"")
                .with(header, sum)
        })
        .await;
        let bench = Bench::new(&[]).await;
        let fetched = bench
            .get_as("s3://bucket/key.bin", s3(&origin.url("")))
            .await
            .unwrap();
        assert_eq!(
            (
                std::fs::read(&fetched.path).unwrap(),
                origin.requests().len()
            ),
            (b"hello".to_vec(), 2),
            "{header}"
        );
        let liar =
            Origin::start(move |_, _| Reply::ok("hellO").with("ETag", "\"e\"").with(header, sum))
                .await;
        let error = bench
            .get_as("s3://bucket/key.bin", s3(&liar.url("")))
            .await
            .unwrap_err();
        assert!(error.message.contains("promised"), "{error}");
    }
}

#[tokio::test]
async fn the_same_bucket_and_key_at_another_service_is_another_file() {
    let one = Origin::start(|_, _| Reply::ok("one").with("ETag", "\"e\"")).await;
    let two = Origin::start(|_, _| Reply::ok("two").with("ETag", "\"e\"")).await;
    let bench = Bench::new(&[]).await;
    for (origin, text) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let fetched = bench
            .get_as("s3://bucket/key.bin", s3(&origin.url("")))
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(&fetched.path).unwrap(), text);
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_on_the_way_is_fetched_anew() {
    let (old, new) = (content(200_000), content(150_000));
    let served = Arc::clone(&new);
    let origin = Origin::start(move |request, before| match before {
        0 => Reply {
            cut_after: Some(50_000),
            ..Reply::file(request, &old, "\"old\"")
        },
        _ if request
            .header("if-match")
            .is_some_and(|wanted| wanted != "\"new\"") =>
        {
            Reply::status(412)
        }
        _ => Reply::file(request, &served, "\"new\""),
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench
        .get_as("s3://bucket/key.bin", s3(&origin.url("")))
        .await
        .unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *new);
}

#[tokio::test]
async fn what_is_sent_compressed_unasked_is_decompressed() {
    let body = content(300_000);
    let packed = {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &body).unwrap();
        packer.finish().unwrap()
    };
    let origin = Origin::start(move |_, before| {
        let reply = Reply::ok(packed.clone())
            .with("Content-Encoding", "gzip")
            .with("ETag", "\"e\"")
            .with("Accept-Ranges", "bytes");
        Reply {
            cut_after: (before == 0).then_some(1000),
            ..reply
        }
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench.get(&origin.url("/packed.bin")).await.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == *body && origin.requests().len() == 2);
}
