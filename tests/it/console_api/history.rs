//! `GET /history` and its relatives.

use serde_json::{Value, json};

use super::{ended, ids};
use crate::support::graphs::{coloured, picture, png, slow, to_base64};
use crate::support::product::{Product, Stage};
use crate::support::receiver::Receiver;

#[tokio::test]
async fn one_list_of_what_is_remembered_and_what_is_kept_page_by_page() {
    let product = Product::start(&[("HISTORY_RUNS", "3")]).await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let id = format!("run-{n}");
        let mut body = json!({"id": id, "prompt": coloured("x", n)});
        if n < 2 {
            body["keep"] = json!(true);
        }
        assert_eq!(product.prompt(&body).await.0, 200);
        expected.insert(0, id);
    }
    let job = crate::v2::submit(&product, &coloured("v2", 9)).await;
    let job = crate::v2::ended(&product, job["id"].as_str().unwrap()).await;
    expected.insert(0, job["id"].as_str().unwrap().to_owned());
    // Of the last three one is the job; run-2 is forgotten, the first two are kept.
    expected.retain(|id| id != "run-2");
    let (status, all) = product.get("/history").await;
    assert_eq!((status, &all["next"]), (200, &Value::Null), "{all}");
    assert_eq!(ids(&all), expected);
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let (_, page) = product.get(&format!("/history?limit=2{before}")).await;
        seen.extend(ids(&page).iter().map(|id| (*id).to_owned()));
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    let item = &all["items"][1];
    assert_eq!(
        (&item["status"], &item["source"]),
        (&json!("succeeded"), &json!("http"))
    );
    assert!(
        item["duration"].is_u64() && item["created_at"].is_u64(),
        "{item}"
    );
    let output = &item["outputs"][0];
    assert_eq!(
        (&output["index"], &output["node_id"]),
        (&json!(0), &json!("9"))
    );
    assert!(
        output.get("url").is_none() && output["size"].as_u64().unwrap() > 0,
        "{output}"
    );
    assert!(item.get("request").is_none(), "{item}");
    assert!(all["items"][4]["outputs"][0]["url"].is_string(), "{all}");
    for bad in [
        "limit=0",
        "limit=201",
        "limit=x",
        "status=x",
        "source=x",
        "before=x",
    ] {
        assert_eq!(
            product.get(&format!("/history?{bad}")).await.0,
            400,
            "{bad}"
        );
    }
    for (query, count) in [
        ("source=v2", 1),
        ("source=http", 4),
        ("status=failed", 0),
        ("status=failed,succeeded", 5),
        ("q=RUN-3", 1),
        ("q=emptyimage", 5),
        ("workflow=x", 0),
    ] {
        let (_, page) = product.get(&format!("/history?{query}")).await;
        assert_eq!(ids(&page).len(), count, "{query}: {page}");
    }
    let (status, gone) = product.delete("/history?source=http").await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(4)), "{gone}");
    let (_, rest) = product.get("/history").await;
    assert_eq!(ids(&rest), [job["id"].as_str().unwrap()]);
    let (status, gone) = product.delete("/history").await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(1)));
    let url = format!("/api/v2/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(product.get(&url).await.0, 404);
}

#[tokio::test]
async fn a_run_shows_what_was_asked_for_without_secrets_and_media_and_why_it_failed() {
    let product = Product::start(&[]).await;
    let noise: Vec<u8> = png([1, 2, 3])
        .into_iter()
        .chain((0..2000_u32).map(|n| n as u8))
        .collect();
    let media = to_base64(&noise);
    let body = json!({
        "id": "fails", "extra_data": {"api_key_comfy_org": "marked"},
        "credentials": [{"url_pattern": "*", "auth": {"type": "bearer", "token": "marked"}}],
        "prompt": {
            "1": {"class_type": "LoadImage", "inputs": {"image": media}},
            "2": {
                "class_type": "SimFail",
                "inputs": {"message": "broken on purpose"},
                "_meta": {"title": "Breaks"}
            },
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": "x"}
            }},
    });
    let (status, answer) = product.prompt(&body).await;
    assert!(status >= 400, "{answer}");
    let (_, run) = product.get("/history/fails").await;
    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(
        run["request"]["prompt"]["1"]["inputs"]["image"],
        json!({"omitted": media.len()})
    );
    assert!(run["error"]["details"]["traceback"].is_array(), "{run}");
    assert_eq!(run["error"]["error"], answer["error"]);
    assert_eq!(run["error"]["code"], answer["code"]);
    let text = run.to_string();
    assert!(
        !text.contains("marked") && !text.contains("extra_data"),
        "{text}"
    );
    assert_eq!(run["warnings"], json!([]));
    assert_eq!(product.get("/history/nothing").await.0, 404);
    assert_eq!(product.delete("/history/nothing").await.0, 404);
}

#[tokio::test]
async fn runs_in_flight_are_among_them_and_cannot_be_forgotten() {
    let product = Product::start(&[]).await;
    let later = product.prompt_later(json!({"id": "slow", "prompt": slow(5.0, 50)}));
    product.until_prompt("slow", "running").await;
    let (_, page) = product.get("/history?status=running").await;
    assert_eq!(ids(&page), ["slow"], "{page}");
    let (_, run) = product.get("/history/slow").await;
    assert_eq!(run["prompt"]["5"]["class_type"], "SimSleep", "{run}");
    assert_eq!(product.delete("/history/slow").await.0, 409);
    assert_eq!(product.delete("/history").await.1["deleted"], 0);
    assert_eq!(product.delete("/prompt/slow").await.0, 200);
    drop(later.await);
    let run = ended(&product, "slow").await;
    assert_eq!(run["status"], "interrupted");
    assert_eq!(product.delete("/history/slow").await.0, 200);
}

#[tokio::test]
async fn a_run_names_its_workflow_and_its_delivery() {
    let receiver = Receiver::start().await;
    let workflow = json!({
        "summary": "A picture",
        "bind": {"colour": "1.inputs.color"},
        "prompt": picture("w")
    });
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .file("workflows/nice/one.json", workflow.to_string())
        .start()
        .await;
    let body =
        json!({"id": "w", "input": {"colour": 7}, "webhook_v2": receiver.url("/hook").as_str()});
    let (status, answer) = product.post("/workflow/nice/one", &body).await;
    assert_eq!(status, 202, "{answer}");
    let run = ended(&product, "w").await;
    assert_eq!(
        (&run["workflow"], &run["source"]),
        (&json!("/workflow/nice/one"), &json!("workflow")),
        "{run}"
    );
    assert_eq!(run["request"]["input"], json!({"colour": 7}));
    assert!(run["request"].get("prompt").is_none());
    assert!(run["prompt"]["9"].is_object());
    for query in [
        "workflow=nice/one",
        "workflow=/workflow/nice/one",
        "q=nice/ONE",
    ] {
        let (_, page) = product.get(&format!("/history?{query}")).await;
        assert_eq!(ids(&page), ["w"], "{query}");
    }
    crate::support::product::until("the delivery", async || {
        let (_, run) = product.get("/history/w").await;
        (run["delivery"]["status"] == "delivered").then_some(())
    })
    .await;
}
