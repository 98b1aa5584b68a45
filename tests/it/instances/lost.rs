//! An instance that dies gives its jobs to the others.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{all_ready, lasting, quick, ran_in, several};
use crate::support::product::{Product, until};

/// Kills some of them in one moment: nothing moves from the one to the other in between.
async fn kill_at_once(product: &Product, indices: &[usize]) {
    let (_, status) = product.get("/status").await;
    for index in indices {
        let pid = status["instances"][*index]["pid"].as_i64().unwrap();
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    }
}

async fn kill_one(product: &Product, index: usize) {
    kill_at_once(product, &[index]).await;
}

/// Submits a job, which must be taken; gives its path.
async fn submitted(product: &Product, graph: &Value) -> String {
    let (status, job) = product
        .post("/api/v2/jobs", &json!({"workflow": graph}))
        .await;
    assert_eq!(status, 201, "{job}");
    let own = job["urls"]["self"].as_str().unwrap();
    own.split('?').next().unwrap().to_owned()
}

/// How often all of them were started again.
fn restarts(all: &[Value]) -> u64 {
    all.iter()
        .map(|one| one["restarts"].as_u64().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_dead_one_go_on_in_another() {
    let product = several(2, &[]).await;
    let mut jobs = Vec::new();
    for n in 0..6 {
        jobs.push(product.prompt_later(json!({"id": format!("j{n}"), "prompt": lasting(1.0)})));
        let status = if n < 2 { "running" } else { "pending" };
        product.until_prompt(&format!("j{n}"), status).await;
    }
    kill_one(&product, 0).await;
    for (n, job) in jobs.into_iter().enumerate() {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{n} {body}");
        assert_eq!(body["images"].as_array().map(Vec::len), Some(1), "{body}");
    }
    let all = all_ready(&product, 2).await;
    assert_eq!(
        (&all[0]["restarts"], &all[1]["restarts"]),
        (&json!(1), &json!(0))
    );
    until("nothing is left", async || {
        product.leftovers().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_comfyui_ends_for_good() {
    let product = several(3, &[]).await;
    let mut graph = quick();
    graph["5"] = json!({"class_type": "SimCrash", "inputs": {"code": 1, "filename_prefix": "x"}});
    graph["6"] = json!({"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}});
    let (status, body) = product.prompt(&json!({"id": "bad", "prompt": graph})).await;
    assert_eq!(
        (status, &body["code"]),
        (503, &json!("comfyui_unavailable")),
        "{body}"
    );
    assert!(
        body["error"].as_str().unwrap().contains("V2_MAX_ATTEMPTS"),
        "{body}"
    );
    let all = all_ready(&product, 3).await;
    assert_eq!(restarts(&all), 2, "{all:?}");

    let path = submitted(&product, &graph).await;
    let ended = until("the job has failed", async || {
        let (_, job) = product.get(&path).await;
        (job["status"] == "failed").then_some(job)
    })
    .await;
    assert_eq!(ended["error"]["code"], "worker_lost", "{ended}");
    let all = all_ready(&product, 3).await;
    assert_eq!(restarts(&all), 4, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_all_apis_wait_while_none_is_up_and_new_ones_are_refused() {
    // A job may be on its way into the one that dies next, which counts as a run: whether it began
    // cannot be known.
    let product = several(2, &[("V2_MAX_ATTEMPTS", "3")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": lasting(2.0)}));
    product.until_prompt("r", "running").await;
    let path = submitted(&product, &lasting(2.0)).await;
    until("it runs", async || {
        (product.get(&path).await.1["status"] == "running").then_some(())
    })
    .await;
    kill_at_once(&product, &[0, 1]).await;
    product.until_status("/ready", 503).await;
    let (status, refused) = product.prompt(&json!({"prompt": quick()})).await;
    // One may be back already.
    assert!(
        status == 503 && refused["code"] == "comfyui_unavailable" || status == 200,
        "{status} {refused}"
    );
    let (status, body) = running.await.unwrap();
    assert_eq!(status, 200, "{body}");
    let ended = until("the job has ended", async || {
        let (_, job) = product.get(&path).await;
        ["succeeded", "failed"]
            .contains(&job["status"].as_str()?)
            .then_some(job)
    })
    .await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(
        ended["outputs"].as_array().map(Vec::len),
        Some(1),
        "{ended}"
    );
    assert_eq!(product.get("/health").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_restarted_or_all_one_after_the_other() {
    let product = several(2, &[]).await;
    assert_eq!(product.post("/restart?instance=2", &json!({})).await.0, 404);
    assert_eq!(product.post("/restart?instance=x", &json!({})).await.0, 404);
    let mut jobs = Vec::new();
    for n in 0..4 {
        jobs.push(product.prompt_later(json!({"id": format!("j{n}"), "prompt": lasting(0.8)})));
        let status = if n < 2 { "running" } else { "pending" };
        product.until_prompt(&format!("j{n}"), status).await;
    }
    assert_eq!(product.post("/restart?instance=1", &json!({})).await.0, 202);
    let restarts = |all: &[Value]| -> Vec<u64> {
        all.iter()
            .map(|one| one["restarts"].as_u64().unwrap())
            .collect()
    };
    for job in jobs {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    until("the second was restarted", async || {
        let all = all_ready(&product, 2).await;
        (restarts(&all) == [0, 1]).then_some(())
    })
    .await;
    // V2_MAX_ATTEMPTS is 2, and this is no attempt.
    let job = product.prompt_later(json!({"id": "long", "prompt": lasting(2.5)}));
    product.until_prompt("long", "running").await;
    assert_eq!(product.post("/restart", &json!({})).await.0, 202);
    assert_eq!(product.post("/restart", &json!({})).await.0, 409);
    until("both were restarted", async || {
        let (_, status) = product.get("/status").await;
        let all = status["instances"].as_array().unwrap();
        let down = all.iter().filter(|one| one["state"] != "ready").count();
        assert!(down <= 1, "{status}");
        assert_eq!(product.get("/ready").await.0, 200);
        (restarts(all) == [1, 2] && down == 0).then_some(())
    })
    .await;
    let (status, body) = tokio::time::timeout(Duration::from_secs(20), job)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status, 200, "{body}");
    let _ = ran_in(&body);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_gives_its_jobs_away_too() {
    let product = several(2, &[("COMFYUI_HANG_TIMEOUT_S", "1")]).await;
    let jobs: Vec<_> = (0..4)
        .map(|n| product.prompt_later(json!({"id": format!("h{n}"), "prompt": lasting(1.0)})))
        .collect();
    product.until_prompt("h1", "running").await;
    product.faults(json!({"hang_http": true})).await;
    for job in jobs {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
}
