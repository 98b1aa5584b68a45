//! Each error of the contract's table: code, status, one readable sentence.

use serde_json::{Value, json};

use super::{ended, form, id, submit, upload};
use crate::support::graphs::{picture, slow, with};
use crate::support::product::{Product, Stage};

fn check(answer: &(u16, Value), status: u16, code: &str) {
    let (found, body) = answer;
    assert_eq!(
        (*found, body["error"]["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.len() > 10 && message.len() < 600 && !message.contains('\n'),
        "{message}"
    );
    assert!(body["error"].get("details").is_some(), "{body}");
}

#[tokio::test]
async fn bad_jobs_are_refused_with_the_right_word_and_leave_nothing() {
    let product = Product::start(&[]).await;
    let good = picture("e");
    let cases = [
        (json!({}), 422, "invalid_workflow"),
        (json!({"workflow": []}), 422, "invalid_workflow"),
        (
            json!({"workflow": {"nodes": [{"id": 1, "type": "NoSuchNode"}], "links": []}}),
            422,
            "workflow_format_ui",
        ),
        (json!({"workflow": {}}), 422, "invalid_workflow"),
        (
            json!({"workflow": {"1": {"inputs": {}}}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": {"1": {"class_type": "Nope", "inputs": {}}, "9": good["9"]}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": {"9": good["9"]}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "webhook_url": "http://x"}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "inputs": {}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "extra_data": {"other": 1}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "extra_data": {"api_key_comfy_org": 5}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "extra_data": []}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "priority": 1.5}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "priority": 1_000_001}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": []}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": {"id": "x"}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": {"compress_outputs": "rar"}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "metadata": []}),
            422,
            "metadata_invalid",
        ),
        (
            json!({"workflow": good, "metadata": {"a b": "c"}}),
            422,
            "metadata_invalid",
        ),
        (
            json!({
                "workflow": with(
                    good.clone(),
                    json!({
                        "2": {
                            "class_type": "LoadImage",
                            "inputs": {"image": {"__type": "core/ASSET"}}
                        }
                    })
                )
            }),
            422,
            "missing_asset",
        ),
        (
            json!({"workflow": crate::support::graphs::loaded("http://127.0.0.1:1/x.png")}),
            422,
            "download_failed",
        ),
    ];
    for (body, status, code) in cases {
        let answer = product.post("/api/v2/jobs", &body).await;
        check(&answer, status, code);
    }
    let (_, list) = product.get("/api/v2/jobs").await;
    assert_eq!(list, json!({"jobs": []}), "a refused job leaves no record");
}

#[tokio::test]
async fn the_rest_of_the_prefix_answers_in_the_same_form() {
    let product = Stage::new().env("MAX_BODY_SIZE_MB", "0.01").start().await;
    let raw = async |method: &str, path: &str, content_type: &str, body: Vec<u8>| {
        let request = product
            .http
            .request(method.parse().unwrap(), format!("{}{path}", product.url));
        let response = request
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(
            response.headers().contains_key("x-comfy-request-id"),
            "{method} {path}"
        );
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let json = "application/json";
    let unknown = uuid::Uuid::new_v4();
    for (method, path, content_type, body, status, code) in [
        (
            "POST",
            "/api/v2/jobs".to_owned(),
            json,
            "[".to_owned(),
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            json,
            "[]".into(),
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            "text/plain",
            "{}".into(),
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            json,
            format!("{{\"x\": \"{}\"}}", "x".repeat(20_000)),
            413,
            "payload_too_large",
        ),
        (
            "PUT",
            "/api/v2/jobs".into(),
            json,
            String::new(),
            405,
            "method_not_allowed",
        ),
        (
            "GET",
            "/api/v2/nothing".into(),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            "/api/v2/jobs/not-a-uuid".into(),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "POST",
            format!("/api/v2/jobs/{unknown}/cancel"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}/events"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}/workflow"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            "/api/v2/jobs?limit=0".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?limit=101".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?status=done".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?cursor=abc".into(),
            json,
            String::new(),
            400,
            "invalid_cursor",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a]=1&metadata[a]=2".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a b]=1".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a]=1&metadata[b]=1&metadata[c]=1&metadata[d]=1".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "POST",
            "/api/v2/assets".into(),
            json,
            "{}".into(),
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/api/v2/assets".into(),
            "multipart/form-data; boundary=x",
            "garbage".into(),
            422,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/assets/from-hash".into(),
            json,
            format!("{{\"hash\": \"blake3:{}\"}}", "0".repeat(64)),
            404,
            "blob_not_found",
        ),
        (
            "GET",
            format!("/api/v2/assets/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/assets/{unknown}/content"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "DELETE",
            format!("/api/v2/assets/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
    ] {
        let answer = raw(method, &path, content_type, body.into_bytes()).await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
        check(&answer, status, code);
    }
}

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
    // Released when nothing was made.
    check(
        &post(
            "two",
            json!({"workflow": {"1": {"class_type": "Nope", "inputs": {}}}}),
        )
        .await,
        422,
        "invalid_workflow",
    );
    assert_eq!(post("two", json!({"workflow": picture("k")})).await.0, 201);
    check(
        &post(&"k".repeat(256), json!({"workflow": picture("k")})).await,
        400,
        "invalid_request",
    );
}

#[tokio::test]
async fn an_output_of_a_job_in_flight_is_not_deleted_and_a_switched_off_api_keeps_its_assets() {
    let product = Product::start(&[]).await;
    // The text comes first; then it sleeps until it is cancelled.
    let text = json!({"6": {"class_type": "PreviewAny", "inputs": {"source": "first"}}});
    let graph = with(text, slow(60.0, 600));
    let job = submit(&product, &graph).await;
    let path = format!("/api/v2/jobs/{}", id(&job));
    let output = crate::support::product::until("an output while it runs", async || {
        let (_, job) = product.get(&path).await;
        (job["status"] == "running")
            .then(|| job["outputs"][0]["id"].as_str().map(str::to_owned))
            .flatten()
    })
    .await;
    check(
        &product.delete(&format!("/api/v2/assets/{output}")).await,
        409,
        "asset_in_use",
    );
    product.post(&format!("{path}/cancel"), &json!({})).await;
    ended(&product, id(&job)).await;
    let response = product
        .http
        .delete(format!("{}/api/v2/assets/{output}", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
    let (_, job) = product.get(&path).await;
    assert!(
        job["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["id"] != json!(output)),
        "{job}"
    );
    let off = Product::start(&[("V2_ENABLED", "false")]).await;
    check(&off.get("/api/v2/jobs").await, 404, "not_found");
    assert_eq!(upload(&off, form(b"x", "x.png")).await.0, 201);
}
