//! Everything that can go well or wrong, with marked secrets.

use std::path::Path;

use serde_json::{Value, json};

use super::inputs::{credentials, mistyped, refused_downloads};
use super::{Heard, KEY, check, environment, origin};
use crate::delivered::{failing, nowhere, picture};
use crate::support::origin::Origin;
use crate::support::product::{Product, Stage, until};
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::{hub, moto};

/// The origin's URL with userinfo and a signed query.
pub(super) fn signed(origin: &Origin, path: &str) -> String {
    let url = origin.url(path).replace("://", "://user:MARKED-userinfo@");
    format!("{url}?X-Amz-Signature=MARKED-query&sig=MARKED-sig&token=MARKED-token#MARKED-fragment")
}

pub(super) fn loads(url: &str) -> Value {
    let mut graph = picture(1);
    graph["1"] = json!({"class_type": "LoadImage", "inputs": {"image": url}});
    graph
}

/// Prompts that end in every way, with a webhook whose URL is secret; streams.
async fn webhooks(heard: &mut Heard, product: &Product, receiver: &Receiver) {
    let hook = |path: &str| {
        format!(
            "{}?token=MARKED-hook",
            receiver
                .url(path)
                .to_string()
                .replace("://", "://user:MARKED-hook@")
        )
    };
    receiver.behave(
        "/deaf",
        Behaviour::Answer(reqwest::StatusCode::INTERNAL_SERVER_ERROR),
    );
    let secret =
        json!({"api_key_comfy_org": "MARKED-comfy", "auth_token_comfy_org": "MARKED-comfy2"});
    let hooked = |id: &str, prompt: Value, path: &str| {
        json!({
            "id": id,
            "prompt": prompt,
            "webhook_v2": hook(path),
            "extra_data": secret
        })
    };
    heard
        .prompt(product, hooked("well", picture(1), "/well"), 202)
        .await;
    heard
        .prompt(product, hooked("fails", failing(), "/fails"), 202)
        .await;
    heard
        .prompt(product, hooked("deaf", picture(1), "/deaf"), 202)
        .await;
    heard.prompt(
        product,
        json!({"id": "old", "prompt": picture(1), "webhook": hook("/old"), "extra_data": secret}),
        202
    ).await;
    heard
        .prompt(
            product,
            json!({
                "prompt": {"1": {"class_type": "Nothing", "inputs": {"filename_prefix": "x"}}},
                "extra_data": secret
            }),
            400,
        )
        .await;
    heard
        .prompt(
            product,
            json!({"prompt": failing(), "extra_data": secret}),
            500,
        )
        .await;
    heard
        .ask_as(
            product,
            "POST",
            "/prompt",
            &hooked("stream", picture(1), "/stream"),
            KEY,
            "text/event-stream",
        )
        .await;
}

/// Uploads that succeed and fail, and the proxy that is not there.
async fn uploads(heard: &mut Heard, product: &Product, receiver: &Receiver, bucket: &str) {
    let put = receiver
        .url("/put")
        .to_string()
        .replace("://", "://user:MARKED-put@");
    heard
        .prompt(
            product,
            json!({"id": "put", "prompt": picture(1), "http_upload": {"url_prefix": put}}),
            200,
        )
        .await;
    heard
        .prompt(
            product,
            json!({"id": "s3", "prompt": picture(1), "s3": {"bucket": bucket, "prefix": ""}}),
            200,
        )
        .await;
    heard
        .prompt(
            product,
            json!({"id": "hf", "prompt": picture(1), "hf_upload": {"repo": "owner/model"}}),
            200,
        )
        .await;
    let dead = nowhere().replace("://", "://user:MARKED-put@");
    let (mut one, mut two, mut three) = (Heard::default(), Heard::default(), Heard::default());
    tokio::join!(
        one.prompt(
            product,
            json!({"id": "dead", "prompt": picture(1), "http_upload": {"url_prefix": dead}}),
            502
        ),
        two.prompt(
            product,
            json!({
                "id": "az",
                "prompt": picture(1),
                "azure_blob_upload": {"container": "container"}
            }),
            502
        ),
        three.prompt(
            product,
            json!({
                "id": "nos3",
                "prompt": picture(1),
                "s3": {"bucket": "no-bucket", "prefix": ""}
            }),
            502
        ),
    );
    heard.0.extend([one.0, two.0, three.0].concat());
    heard
        .ask(
            product,
            "POST",
            "/prompt",
            &json!({"prompt": loads("http://user:MARKED@proxied.example/x.png?sig=MARKED")}),
        )
        .await;
}

/// What is shown to who asks, with the right key and a wrong one.
async fn endpoints(heard: &mut Heard, product: &Product) {
    for path in [
        "/queue",
        "/prompt/bad",
        "/prompt/deaf",
        "/models",
        "/metrics",
        "/docs",
        "/docs/json",
        "/docs/yaml",
        "/openapi.json",
        "/health",
        "/ready",
        "/nothing?key=MARKED",
    ] {
        heard.ask(product, "GET", path, &Value::Null).await;
    }
    heard
        .ask_as(
            product,
            "GET",
            "/queue",
            &Value::Null,
            "MARKED-wrong-key",
            "*/*",
        )
        .await;
}

/// Everything that the server has left behind is searched.
fn search(mut heard: Heard, product: &Product, receiver: &Receiver, spool: &Path) {
    for path in ["/well", "/fails", "/deaf", "/old", "/stream", "/events"] {
        for received in receiver.at(path) {
            heard.add(
                format!("webhook {path}"),
                String::from_utf8_lossy(&received.body),
            );
        }
    }
    assert!(receiver.at("/events").len() > 20);
    let home = product.path("");
    heard.files(&home.join("cache"), |_| false);
    heard.files(&home.join("output"), |_| false);
    heard.files(&home.join("input"), |_| false);
    heard.files(&home.join("models"), |_| false);
    heard.files(&home.join("tmp"), |_| false);
    // The documented exception: a delivery needs its URL, so its file is for its owner only.
    heard.files(spool, |path| {
        path.extension()
            .is_some_and(|extension| extension == "webhook")
    });
    for line in product.log.lines() {
        heard.add("the log", line);
    }
    assert!(
        product.log.lines().len() > 50
            && std::fs::read_dir(home.join("cache"))
                .unwrap()
                .flatten()
                .any(|entry| entry.path().extension().is_some_and(|e| e == "meta"))
    );
    heard.search();
}

async fn everything(level: &str) {
    let (receiver, hub, origin) = (
        Receiver::start().await,
        hub::Hub::start().await,
        Origin::start(|request, _| origin(request)).await,
    );
    let s3 = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let bucket = moto::bucket().await;
    let spool = tempfile::tempdir().unwrap();
    let after = json!({
        "models": {
            "after_start": [
                {"url": signed(&origin, "/missing.bin"), "local_path": "models/vae/late.bin"},
                {"url": signed(&origin, "/missing.png"), "local_path": "models/vae/never.bin"}
            ]
        }
    });
    let stage = environment(Stage::new(), &receiver, &hub, s3, level)
        .env("MANIFEST_JSON", &after)
        .env("WEBHOOK_SPOOL_DIR", spool.path().display());
    let environment = stage.environment();
    let mut product = stage.start().await;
    let mut heard = Heard::default();
    heard.add("check", check(&environment).await);

    credentials(&mut heard, &product, &origin, &bucket).await;
    refused_downloads(&mut heard, &product, &origin).await;
    mistyped(&mut heard, &product).await;
    webhooks(&mut heard, &product, &receiver).await;
    uploads(&mut heard, &product, &receiver, &bucket).await;
    endpoints(&mut heard, &product).await;
    for path in ["/well", "/fails", "/old", "/stream"] {
        receiver.wait(path, 1).await;
    }
    receiver.wait("/deaf", 2).await;
    until("the spool holds what could not be delivered", async || {
        std::fs::read_dir(spool.path())
            .unwrap()
            .flatten()
            .next()
            .map(|_| ())
    })
    .await;
    assert_eq!(product.stop().await, Some(0));
    search(heard, &product, &receiver, spool.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaks_at_info() {
    everything("info").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaks_at_trace() {
    everything("trace").await;
}
