//! `keep`, `async`, `KEEP_RUNS`.

use nix::sys::signal::Signal;
use serde_json::json;

use super::ended;
use crate::support::graphs::{colour_of, coloured, slow};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn kept_outputs_are_answered_as_addresses_and_outlive_the_answer() {
    let product = Product::start(&[]).await;
    let body = json!({"id": "kept", "prompt": coloured("kept", 0x00_11_22), "keep": true});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!((status, &answer["keep"]), (200, &json!(true)), "{answer}");
    let url = answer["images"][0].as_str().unwrap();
    assert!(
        url.starts_with(&format!("{}/api/v2/assets/", product.url)),
        "{url}"
    );
    let picture = product.http.get(url).send().await.unwrap();
    assert_eq!(picture.status(), 200);
    assert_eq!(picture.headers()["content-type"], "image/png");
    let (_, run) = product.get("/history/kept").await;
    assert_eq!(
        run["outputs"][0]["filename"], answer["filenames"][0],
        "{run}"
    );
    assert_eq!(
        run["outputs"][0]["asset_id"],
        url.split('/').nth(6).unwrap()
    );
    product.until_clean().await;
    // The next prompt takes it from there.
    let input = format!("asset:{}", run["outputs"][0]["asset_id"].as_str().unwrap());
    let next = json!({"prompt": crate::support::graphs::loaded(&input)});
    let (status, next) = product.prompt(&next).await;
    assert_eq!(status, 200, "{next}");
    assert_eq!(colour_of(&next["images"][0]), [0, 0x11, 0x22]);
    // It is no job of the other API.
    let (_, jobs) = product.get("/api/v2/jobs").await;
    assert_eq!(jobs["jobs"], json!([]));
}

#[tokio::test]
async fn async_needs_somebody_who_learns_of_the_result() {
    let product = Product::start(&[]).await;
    let prompt = coloured("a", 1);
    let (status, answer) = product
        .prompt(&json!({"prompt": prompt, "async": true}))
        .await;
    assert_eq!(
        (status, &answer["location"]),
        (400, &json!("async")),
        "{answer}"
    );
    for bad in [json!({"keep": "yes"}), json!({"async": 1})] {
        let mut body = json!({"prompt": prompt});
        body.as_object_mut()
            .unwrap()
            .extend(bad.as_object().unwrap().clone());
        assert_eq!(product.prompt(&body).await.0, 400, "{bad}");
    }
    let body = json!({"id": "later", "prompt": prompt, "async": true, "keep": true});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(
        (status, &answer["status"], &answer["id"]),
        (202, &json!("ok"), &json!("later")),
        "{answer}"
    );
    assert!(
        answer["prompt"]["9"]["inputs"]["filename_prefix"]
            .as_str()
            .unwrap()
            .starts_with("later_")
    );
    let run = ended(&product, "later").await;
    assert_eq!(
        (&run["status"], &run["source"]),
        (&json!("succeeded"), &json!("http")),
        "{run}"
    );
    let bad = json!({
        "id": "bad",
        "prompt": {"1": {"class_type": "Nothing", "inputs": {}}},
        "async": true,
        "keep": true
    });
    let (status, answer) = product.prompt(&bad).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("invalid_prompt")),
        "{answer}"
    );
}

#[tokio::test]
async fn with_keep_runs_all_are_kept_and_answers_stay_what_they_were() {
    let product = Product::start(&[("KEEP_RUNS", "true"), ("HISTORY_RUNS", "0")]).await;
    let body = json!({"id": "all", "prompt": coloured("all", 0xFF)});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 200);
    assert_eq!(colour_of(&answer["images"][0]), [0, 0, 0xFF]);
    let run = ended(&product, "all").await;
    assert!(run["outputs"][0]["asset_id"].is_string(), "{run}");
    let bytes = product
        .http
        .get(run["outputs"][0]["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(bytes.status(), 200);
    assert_eq!(run["request"]["prompt"], coloured("all", 0xFF));
    assert!(run["stats"]["total_time"].is_number(), "{run}");
}

#[tokio::test]
async fn kept_runs_are_there_after_a_restart_and_those_in_the_background_go_on() {
    let state = tempfile::tempdir().unwrap();
    let start = async || {
        Stage::new()
            .env("STATE_DIR", state.path().display())
            .start()
            .await
    };
    let mut product = start().await;
    let (status, _) = product
        .prompt(&json!({"id": "done", "prompt": coloured("done", 1), "keep": true}))
        .await;
    assert_eq!(status, 200);
    let first = ended(&product, "done").await;
    let (status, _) = product
        .prompt(&json!({"id": "goes on", "prompt": slow(3.0, 30), "keep": true, "async": true}))
        .await;
    assert_eq!(status, 202);
    let waits =
        product.prompt_later(json!({"id": "waits", "prompt": slow(30.0, 30), "keep": true}));
    product.until_prompt("waits", "pending").await;
    product.signal(Signal::SIGKILL);
    product.ended().await;
    drop(waits);
    let product = start().await;
    let (_, again) = product.get("/history/done").await;
    assert_eq!(
        again["outputs"][0]["asset_id"], first["outputs"][0]["asset_id"],
        "{again}"
    );
    assert_eq!(again["request"], first["request"]);
    let run = ended(&product, "goes%20on").await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let (_, lost) = product.get("/history/waits").await;
    assert_eq!(lost["status"], "failed", "{lost}");
}
