//! `GET /queue` and `GET /prompt/{id}`.

use serde_json::{Value, json};

use crate::support::graphs::{picture, slow, with};
use crate::support::product::{Product, until};

#[tokio::test]
async fn the_queue_shows_who_runs_who_waits_and_who_is_done() {
    let product = Product::start(&[]).await;
    product.run("done", &picture("p")).await;
    let first = product.prompt_later(json!({"id": "first", "prompt": slow(20.0, 200)}));
    product.until_prompt("first", "running").await;
    let mut waiting = Vec::new();
    for id in ["second", "third", "fourth"] {
        waiting.push(product.prompt_later(json!({"id": id, "prompt": picture("p")})));
        product.until_prompt(id, "pending").await;
    }
    let progress = until("some progress", async || {
        let (_, entry) = product.get("/prompt/first").await;
        entry["progress"]["value"]
            .as_f64()
            .filter(|value| *value >= 2.0)
            .map(|_| entry["progress"].clone())
    })
    .await;
    assert_eq!(
        (&progress["node"], &progress["max"]),
        (&json!("5"), &json!(200.0))
    );
    assert!(progress["percent"].as_f64().unwrap() > 0.0);
    let (status, queue) = product.get("/queue").await;
    assert_eq!(status, 200);
    let ids = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&queue["running"]), ["first"]);
    assert_eq!(ids(&queue["pending"]), ["second", "third", "fourth"]);
    assert_eq!(
        queue["pending"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["position"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(ids(&queue["finished"]), ["done"]);
    let done = &queue["finished"][0];
    assert_eq!(
        (&done["status"], &done["source"]),
        (&json!("succeeded"), &json!("http"))
    );
    assert!(
        done["created_at"].as_u64().unwrap() <= done["started_at"].as_u64().unwrap()
            && done["started_at"].as_u64() <= done["finished_at"].as_u64()
    );
    assert!(!queue.to_string().contains("images"));

    assert_eq!(
        product.delete("/prompt/second").await,
        (200, json!({"id": "second", "interrupted": "success"}))
    );
    until("the others move up", async || {
        (product.get("/prompt/third").await.1["position"] == 1).then_some(())
    })
    .await;
    assert_eq!(product.delete("/prompt/first").await.0, 200);
    assert_eq!(first.await.unwrap().0, 409);
    let mut statuses = Vec::new();
    for prompt in waiting {
        statuses.push(prompt.await.unwrap().0);
    }
    assert_eq!(statuses, [409, 200, 200]);
    let (status, answer) = product.get("/prompt/unheard-of").await;
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    assert_eq!(
        product.get("/prompt/first").await.1["status"],
        "interrupted"
    );
    product.until_clean().await;
}

#[tokio::test]
async fn a_hundred_finished_prompts_are_remembered() {
    let product = Product::start(&[]).await;
    for batch in 0..11 {
        let running: Vec<_> = (0..10)
            .map(|number| {
                product.prompt_later(
                    json!({"id": format!("p{batch}-{number}"), "prompt": picture("p")}),
                )
            })
            .collect();
        for prompt in running {
            assert_eq!(prompt.await.unwrap().0, 200);
        }
    }
    let (_, queue) = product.get("/queue").await;
    assert_eq!(queue["finished"].as_array().unwrap().len(), 100);
    assert_eq!(product.get("/prompt/p0-0").await.0, 404);
    assert_eq!(product.get("/prompt/p10-9").await.0, 200);
}

/// F10
#[tokio::test]
async fn a_success_is_all_of_it_and_what_has_ended_is_said_to_have_ended() {
    let product = Product::start(&[]).await;
    product.run("first", &picture("p")).await;
    product.run("again", &picture("p")).await;
    let failing = with(
        picture("f"),
        json!({"5": {"class_type": "SimFail", "inputs": {"message": "no"}}}),
    );
    product
        .prompt(&json!({"id": "bad", "prompt": failing}))
        .await;
    let (_, queue) = product.get("/queue").await;
    for entry in queue["finished"].as_array().unwrap() {
        let percent = entry["progress"]["percent"].as_f64();
        match entry["status"].as_str().unwrap() {
            "succeeded" => assert_eq!(percent, Some(100.0), "{entry}"),
            _ => assert!(percent.is_none_or(|percent| percent < 100.0), "{entry}"),
        }
    }
    for (id, how) in [("first", "succeeded"), ("bad", "failed")] {
        let sentence = format!("prompt {id} has already ended ({how})");
        let (status, answer) = product.delete(&format!("/prompt/{id}")).await;
        assert_eq!((status, &answer["error"]), (404, &json!(sentence)));
        let (status, answer) = product.post("/interrupt", &json!({"id": id})).await;
        assert_eq!((status, &answer["error"]), (404, &json!(sentence)));
        assert_eq!(answer["interrupted"], "failed");
    }
    let (_, answer) = product.delete("/prompt/unknown").await;
    assert!(
        answer["error"].as_str().unwrap().contains("last 100"),
        "{answer}"
    );
}
