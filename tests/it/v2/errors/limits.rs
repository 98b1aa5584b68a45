//! Keys, queues and streams have limits; a key makes one thing.

use serde_json::{Value, json};

use super::check;
use crate::support::graphs::{picture, slow};
use crate::support::product::{Product, Stage};
use crate::v2::{ended, form, id};

#[tokio::test]
async fn keys_and_queues_and_streams_have_limits() {
    let product = Stage::new()
        .envs(&[
            ("API_KEYS", "sesame"),
            ("V2_MAX_STREAMS", "1"),
            ("MAX_QUEUE_DEPTH", "2"),
            ("V2_MAX_UPLOAD_MB", "0.01"),
        ])
        .launch()
        .await;
    // `/ready` would say 503 for a deep queue only.
    product.until_ready().await;
    let with_key = async |method: &str, path: &str, body: Value| {
        let request = product
            .http
            .request(method.parse().unwrap(), format!("{}{path}", product.url));
        request
            .bearer_auth("sesame")
            .json(&body)
            .send()
            .await
            .unwrap()
    };
    check(&product.get("/api/v2/jobs").await, 401, "unauthorized");
    let (status, _) = product.get("/api/v2/health").await;
    assert_eq!(status, 200);
    let foreign = product
        .http
        .get(format!("{}/api/v2/jobs", product.url))
        .bearer_auth("sesame")
        .header("sec-fetch-site", "cross-site");
    let foreign = foreign.send().await.unwrap();
    check(
        &(foreign.status().as_u16(), foreign.json().await.unwrap()),
        403,
        "forbidden_origin",
    );
    let mut jobs = Vec::new();
    loop {
        let response = with_key("POST", "/api/v2/jobs", json!({"workflow": slow(20.0, 200)})).await;
        if response.status() == 201 {
            jobs.push(response.json::<Value>().await.unwrap());
            assert!(jobs.len() < 10, "MAX_QUEUE_DEPTH is 2");
            continue;
        }
        assert!(
            response.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                >= 1
        );
        check(
            &(response.status().as_u16(), response.json().await.unwrap()),
            429,
            "queue_full",
        );
        break;
    }
    let events = format!("/api/v2/jobs/{}/events", id(&jobs[0]));
    let open = with_key("GET", &events, Value::Null).await;
    assert_eq!(open.status(), 200);
    let second = with_key("GET", &events, Value::Null).await;
    check(
        &(second.status().as_u16(), second.json().await.unwrap()),
        429,
        "too_many_streams",
    );
    drop(open);
    for job in &jobs {
        assert_eq!(
            with_key(
                "POST",
                &format!("/api/v2/jobs/{}/cancel", id(job)),
                Value::Null
            )
            .await
            .status(),
            200
        );
    }
    let large = product
        .http
        .post(format!("{}/api/v2/assets", product.url))
        .bearer_auth("sesame")
        .multipart(form(&[0; 100_000], "x.png"));
    let large = large.send().await.unwrap();
    check(
        &(large.status().as_u16(), large.json().await.unwrap()),
        413,
        "payload_too_large",
    );
}

#[tokio::test]
async fn a_key_makes_one_thing_however_many_ask() {
    let product = Product::start(&[]).await;
    let post = |key: &str, body: Value| {
        let request = product
            .http
            .post(format!("{}/api/v2/jobs", product.url))
            .header("idempotency-key", key)
            .json(&body)
            .send();
        async move {
            let response = request.await.unwrap();
            (
                response.status().as_u16(),
                response.json::<Value>().await.unwrap(),
            )
        }
    };
    let all = futures_util::future::join_all(
        (0..50).map(|_| post("one", json!({"workflow": picture("k")}))),
    )
    .await;
    let made: Vec<_> = all.iter().filter(|(status, _)| *status == 201).collect();
    assert_eq!(made.len(), 1);
    for answer in all.iter().filter(|(status, _)| *status != 201) {
        check(answer, 422, "idempotency_key_reuse");
        assert_eq!(answer.1["error"]["details"]["job_id"], made[0].1["id"]);
    }
    ended(&product, id(&made[0].1)).await;
    // Released when nothing was made, by the time that it is said.
    let unknown = json!({"workflow": {"1": {"class_type": "Nope", "inputs": {}}}});
    for _ in 0..30 {
        check(&post("two", unknown.clone()).await, 422, "invalid_workflow");
    }
    assert_eq!(post("two", json!({"workflow": picture("k")})).await.0, 201);
    check(
        &post(&"k".repeat(256), json!({"workflow": picture("k")})).await,
        400,
        "invalid_request",
    );
}
