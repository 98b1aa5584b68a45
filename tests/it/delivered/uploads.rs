//! Upload targets: where the files are afterwards, what the answer says, and what is refused before
//! the GPU works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{nowhere, picture, picture_and_animation, refused, stage};
use crate::support::product::{Product, Stage, until};
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::{azurite, hub, moto};

async fn with_s3(stage: Stage) -> Stage {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    stage.envs(&[
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", url),
    ])
}

async fn fetched(url: &str) -> Vec<u8> {
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    response.bytes().await.unwrap().to_vec()
}

/// Sends a prompt that must fail with 502 for its upload; the answer names the target.
async fn upload_fails(product: &Product, body: Value, target: &str) {
    let began = Instant::now();
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (502, Some("upload_failed")),
        "{answer}"
    );
    assert!(
        answer["error"].as_str().unwrap().contains(target),
        "{target} in {answer}"
    );
    assert!(!answer.to_string().contains("marked"), "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "it took {:?}",
        began.elapsed()
    );
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let product = with_s3(Stage::new()).await.start().await;
    let bucket = moto::bucket().await;
    let target = json!({"bucket": bucket, "prefix": "out/"});

    let (status, body) = product
        .prompt(&json!({"id": "sync", "prompt": picture(2), "s3": target}))
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["images"],
        json!([
            format!("s3://{bucket}/out/sync_pic_00001_.png"),
            format!("s3://{bucket}/out/sync_pic_00002_.png")
        ])
    );
    assert_eq!(
        body["filenames"],
        json!(["sync_pic_00001_.png", "sync_pic_00002_.png"])
    );
    assert_eq!(body["s3"], target);
    assert!(body["stats"]["upload_time"].as_u64().unwrap() > 0, "{body}");

    let (status, body) = product
        .prompt(&json!({"id": "signed", "prompt": picture(1), "s3": target, "signed_url": true}))
        .await;
    assert_eq!(status, 200, "{body}");
    let url = body["images"][0].as_str().unwrap();
    assert!(
        url.contains("X-Amz-Signature") && url.contains("X-Amz-Expires=3600"),
        "{url}"
    );
    assert!(fetched(url).await.starts_with(b"\x89PNG"));

    let background = json!({"bucket": bucket, "prefix": "out/", "async": true});
    let (status, body) = product
        .prompt(&json!({"id": "later", "prompt": picture(1), "s3": background}))
        .await;
    assert_eq!(
        (status, body["status"].as_str(), body["images"].clone()),
        (202, Some("ok"), Value::Null),
        "{body}"
    );
    product.until_prompt("later", "succeeded").await;
    let listing = moto::get(&bucket).await;
    assert!(
        listing.contains("out/later_pic_00001_.png") && listing.contains("out/sync_pic_00002_.png"),
        "{listing}"
    );

    let colliding = json!({
        "id": "both",
        "prompt": picture_and_animation(),
        "convert_output": {"format": "jpg"},
        "s3": target
    });
    let (status, body) = product.prompt(&colliding).await;
    assert_eq!(
        (status, body["filenames"].clone()),
        (200, json!(["both_pic_00001_.jpg", "both_pic_00001__2.jpg"])),
        "{body}"
    );
    let listing = moto::get(&bucket).await;
    assert!(
        listing.contains("out/both_pic_00001_.jpg")
            && listing.contains("out/both_pic_00001__2.jpg"),
        "{listing}"
    );

    let (status, body) = product
        .prompt(
            &json!({"id": "zipped", "prompt": picture(3), "compress_outputs": true, "s3": target}),
        )
        .await;
    assert_eq!(
        (status, body["images"].clone()),
        (
            200,
            json!([format!("s3://{bucket}/out/zipped_outputs.zip")])
        ),
        "{body}"
    );

    upload_fails(
        &product,
        json!({
            "id": "gone",
            "prompt": picture(1),
            "s3": {"bucket": "no-such-bucket-here", "prefix": ""}
        }),
        "s3://no-such-bucket-here/",
    )
    .await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let product = Stage::new()
        .env(
            "AZURE_STORAGE_CONNECTION_STRING",
            azurite::connection_string().await,
        )
        .start()
        .await;
    let container = azurite::container(false).await;
    let prefix = tokio::task::spawn_blocking(azurite::endpoint)
        .await
        .unwrap();
    let target = json!({"container": container, "blob_prefix": "/deep/"});
    let (status, body) = product
        .prompt(&json!({"id": "a", "prompt": picture(1), "azure_blob_upload": target}))
        .await;
    assert_eq!(
        (status, body["images"].clone()),
        (
            200,
            json!([format!("{prefix}/{container}/deep/a_pic_00001_.png")])
        ),
        "{body}"
    );
    let (status, body) = product.prompt(
        &json!({"id": "b", "prompt": picture(1), "azure_blob_upload": target, "signed_url": true})
    ).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        fetched(body["images"][0].as_str().unwrap())
            .await
            .starts_with(b"\x89PNG")
    );
    upload_fails(
        &product,
        json!({"prompt": picture(1), "azure_blob_upload": {"container": "nothere"}}),
        "/nothere/",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hugging_face() {
    let hub = hub::Hub::start().await;
    let product = Stage::new()
        .envs(&[("HF_TOKEN", hub::TOKEN), ("HF_ENDPOINT", &hub.url)])
        .start()
        .await;
    let (status, body) = product
        .prompt(&json!({
            "id": "h",
            "prompt": picture(3),
            "hf_upload": {"repo": "owner/model", "directory": "some dir"}
        }))
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["images"][0],
        format!(
            "{}/owner/model/resolve/main/some%20dir/h_pic_00001_.png",
            hub.url
        )
    );
    assert!(
        hub.content("owner/model", "some dir/h_pic_00003_.png")
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    assert_eq!(hub.state().repositories["owner/model"].commits.len(), 1);
    upload_fails(
        &product,
        json!({"prompt": picture(1), "hf_upload": {"repo": "owner/nothing"}}),
        "owner/nothing",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    let receiver = Receiver::start().await;
    let product = stage().start().await;
    let prefix = receiver.url("/put").to_string();
    let (status, body) = product
        .prompt(&json!({
            "id": "p",
            "prompt": picture(1),
            "http_upload": {"url_prefix": format!("{prefix}/")}
        }))
        .await;
    assert_eq!(
        (status, body["images"].clone()),
        (200, json!([format!("{prefix}/p_pic_00001_.png")])),
        "{body}"
    );
    let put = receiver.wait("/put/p_pic_00001_.png", 1).await.remove(0);
    assert!(
        put.method == "PUT"
            && put.header("content-type") == "image/png"
            && put.body.starts_with(b"\x89PNG"),
        "{put:?}"
    );

    let marked = prefix.replace("//", "//user:marked@");
    receiver.behave(
        "/put/q_pic_00001_.png",
        Behaviour::Answer(reqwest::StatusCode::FORBIDDEN),
    );
    upload_fails(
        &product,
        json!({"id": "q", "prompt": picture(1), "http_upload": {"url_prefix": marked}}),
        &prefix,
    )
    .await;
    let dead = nowhere();
    upload_fails(
        &product,
        json!({
            "prompt": picture(1),
            "http_upload": {"url_prefix": dead.replace("//", "//user:marked@")}
        }),
        &dead,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_can_be_cancelled() {
    let receiver = Receiver::start().await;
    receiver.behave("/put/slow_pic_00001_.png", Behaviour::Hang);
    let product = stage().start().await;
    let upload = product.prompt_later(json!({
        "id": "slow",
        "prompt": picture(1),
        "http_upload": {"url_prefix": receiver.url("/put")}
    }));
    product.until_prompt("slow", "uploading").await;
    receiver.wait("/put/slow_pic_00001_.png", 1).await;
    assert_eq!(product.delete("/prompt/slow").await.0, 200);
    let (status, body) = tokio::time::timeout(Duration::from_secs(30), upload)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status, body["code"].as_str()),
        (409, Some("execution_interrupted")),
        "{body}"
    );
    until("the files are gone", async || {
        product.leftovers().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_refused_at_once() {
    let receiver = Receiver::start().await;
    let product = Stage::new().start().await;
    refused(
        &product,
        json!({"s3": {"bucket": "a-bucket", "prefix": ""}}),
        "s3",
        &["S3", "AWS_REGION"],
    )
    .await;
    refused(
        &product,
        json!({"azure_blob_upload": {"container": "container"}}),
        "azure_blob_upload",
        &["AZURE_STORAGE"],
    )
    .await;
    refused(
        &product,
        json!({"hf_upload": {"repo": "o/r"}}),
        "hf_upload",
        &["HF_TOKEN"],
    )
    .await;
    let private = receiver.url("/hook").to_string();
    let guard = ["HTTP_TRUSTED_ORIGINS", "ALLOW_PRIVATE_NETWORKS"];
    refused(
        &product,
        json!({"http_upload": {"url_prefix": private}}),
        "http_upload",
        &guard,
    )
    .await;
    refused(
        &product,
        json!({"webhook_v2": private}),
        "webhook_v2",
        &guard,
    )
    .await;
    refused(&product, json!({"webhook": private}), "webhook", &guard).await;
    let two = json!({
        "http_upload": {"url_prefix": "https://example.com"},
        "s3": {"bucket": "a-bucket", "prefix": ""}
    });
    refused(&product, two, "", &["http_upload", "s3"]).await;
    refused(
        &product,
        json!({"signed_url": true}),
        "signed_url",
        &["signed_url"],
    )
    .await;
    assert!(receiver.at("/hook").is_empty());
    let allowed = Stage::new()
        .env(
            "HTTP_TRUSTED_ORIGINS",
            format!("http://{}", receiver.address),
        )
        .start()
        .await;
    refused(
        &allowed,
        json!({"http_upload": {"url_prefix": private}, "signed_url": true}),
        "",
        &["sign"],
    )
    .await;
    let (status, body) = allowed
        .prompt(&json!({"prompt": picture(1), "http_upload": {"url_prefix": private}}))
        .await;
    assert_eq!(status, 200, "a trusted origin: {body}");
}
