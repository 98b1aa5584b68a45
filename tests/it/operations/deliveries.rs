//! `GET /deliveries`, `POST /deliveries/{id}/resend`.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::delivered::{nowhere, picture};
use crate::support::product::{Product, Stage, until};
use crate::support::receiver::{Behaviour, Receiver};

fn stage() -> Stage {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("PROMPT_WEBHOOK_RETRIES", "1")
}

async fn submit(product: &Product, id: &str, field: &str, url: &str) {
    let body = json!({"id": id, "prompt": picture(1), field: url});
    let (status, body) = product.prompt(&body).await;
    assert_eq!(status, 202, "{body}");
}

async fn all(product: &Product) -> Vec<Value> {
    let (status, list) = product.get("/deliveries").await;
    assert_eq!(status, 200, "{list}");
    list.as_array().unwrap().clone()
}

/// The newest delivery of a prompt, once it has a status.
async fn until_status(product: &Product, prompt: &str, status: &str) -> Value {
    until(
        &format!("the delivery of {prompt} is {status}"),
        async || {
            let list = all(product).await;
            let found = list
                .into_iter()
                .find(|entry| entry["prompt_id"] == prompt)?;
            (found["status"] == status).then_some(found)
        },
    )
    .await
}

async fn resend(product: &Product, entry: &Value) -> (u16, Value) {
    let id = entry["id"].as_str().unwrap();
    product
        .post(&format!("/deliveries/{id}/resend"), &json!({}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_with_their_attempts() {
    let (product, peer) = (stage().start().await, Receiver::start().await);
    let url = peer.url("/good?token=marked");
    submit(&product, "good", "webhook_v2", url.as_str()).await;
    let good = until_status(&product, "good", "delivered").await;
    assert_eq!(
        (&good["kind"], &good["url"]),
        (&json!("v2"), &json!(peer.url("/good").as_str()))
    );
    let attempts = good["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[0]["status"]),
        (1, &json!(200)),
        "{good}"
    );
    assert!(attempts[0].get("error").is_none() && attempts[0]["seconds"].as_f64().unwrap() < 30.0);
    assert!(attempts[0]["at"].as_u64().unwrap() >= good["created_at"].as_u64().unwrap());
    let hook = &peer.wait("/good", 1).await[0];
    assert_eq!(good["size"].as_u64(), Some(hook.len));
    assert!(good.get("next_at").is_none());

    peer.behave("/bad", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    submit(&product, "bad", "webhook_v2", peer.url("/bad").as_str()).await;
    let waiting = until_status(&product, "bad", "waiting").await;
    assert!(
        waiting["next_at"].as_u64() > waiting["created_at"].as_u64(),
        "{waiting}"
    );
    assert_eq!(waiting["attempts"][0]["status"], 500);
    assert!(
        waiting["attempts"][0]["error"]
            .as_str()
            .unwrap()
            .contains("500")
    );
    // Between attempts it need not wait.
    assert_eq!(resend(&product, &waiting).await.0, 202);
    let failed = until_status(&product, "bad", "failed").await;
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 2, "{failed}");
    let took = failed["attempts"][1]["at"].as_u64().unwrap()
        - failed["attempts"][0]["at"].as_u64().unwrap();
    assert!(took < 900, "the pause of a second was cut short: {took} ms");

    submit(&product, "dead", "webhook", &nowhere()).await;
    let dead = until_status(&product, "dead", "failed").await;
    assert_eq!(dead["kind"], "legacy");
    assert!(dead["attempts"][0].get("status").is_none());
    assert!(dead["attempts"][0]["error"].is_string(), "{dead}");
    assert_eq!(all(&product).await[0]["id"], dead["id"], "newest first");

    // Without a spool no body is kept.
    for gone in [good, failed, dead] {
        let (status, body) = resend(&product, &gone).await;
        assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    }
    let (status, body) = product.post("/deliveries/unknown/resend", &json!({})).await;
    assert_eq!(
        (status, &body["code"]),
        (404, &json!("not_found")),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_spool_is_sent_again_on_request() {
    let peer = Receiver::start().await;
    peer.behave("/hook", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE));
    let spool = tempfile::tempdir().unwrap();
    let stage = || {
        stage()
            .env("PROMPT_WEBHOOK_RETRIES", "0")
            .env("WEBHOOK_SPOOL_DIR", spool.path().display())
    };
    let mut product = stage().start().await;
    submit(&product, "kept", "webhook_v2", peer.url("/hook").as_str()).await;
    let failed = until_status(&product, "kept", "failed").await;
    assert!(
        failed["next_at"].as_u64() > failed["created_at"].as_u64(),
        "{failed}"
    );
    let (status, body) = resend(&product, &failed).await;
    assert_eq!((status, &body["id"]), (202, &failed["id"]), "{body}");
    let again = until("it was tried again", async || {
        let entry = until_status(&product, "kept", "failed").await;
        (entry["attempts"].as_array()?.len() == 2).then_some(entry)
    })
    .await;
    assert_eq!(again["id"], failed["id"], "it is the same delivery");
    assert_eq!(product.stop().await, Some(0));

    // The next process finds it.
    let product = stage().start().await;
    let found = until_status(&product, "kept", "failed").await;
    assert_eq!(found["kind"], "v2");
    assert!(found["size"].as_u64().unwrap() > 100);
    assert!(
        found["created_at"]
            .as_u64()
            .unwrap()
            .abs_diff(failed["created_at"].as_u64().unwrap())
            < 2_000
    );
    peer.behave("/hook", Behaviour::Answer(StatusCode::OK));
    assert_eq!(resend(&product, &found).await.0, 202);
    let delivered = until_status(&product, "kept", "delivered").await;
    assert_eq!(delivered["id"], found["id"]);
    let (status, body) = resend(&product, &delivered).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    let files = std::fs::read_dir(spool.path()).unwrap().flatten();
    let left: Vec<_> = files
        .filter(|file| file.path().extension().is_some_and(|end| end == "webhook"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_events_are_deliveries_too() {
    let peer = Receiver::start().await;
    let product = stage()
        .env("SYSTEM_WEBHOOK_URL", peer.url("/system?key=marked"))
        .env("SYSTEM_WEBHOOK_EVENTS", "execution_success,file_downloaded")
        .start()
        .await;
    product
        .run("told", &crate::support::graphs::picture("x"))
        .await;
    let told = until_status(&product, "told", "delivered").await;
    assert_eq!(
        (&told["kind"], &told["url"]),
        (&json!("system"), &json!(peer.url("/system").as_str()))
    );
    peer.behave(
        "/system",
        Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE),
    );
    product
        .run("later", &crate::support::graphs::picture("y"))
        .await;
    let waiting = until_status(&product, "later", "waiting").await;
    peer.behave("/system", Behaviour::Answer(StatusCode::OK));
    assert_eq!(resend(&product, &waiting).await.0, 202);
    until_status(&product, "later", "delivered").await;
}
