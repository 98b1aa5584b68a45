//! What survives: kill -9, a crash of ComfyUI, an orderly end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{bytes, ended, form, has_ended, id, submit, submit_with, upload};
use crate::support::graphs::{coloured, picture, slow};
use crate::support::product::{Product, Stage, until};

/// A product whose state lies outside of its own directory, so that the next one can take it up.
async fn start(state: &Path, variables: &[(&str, &str)]) -> Product {
    Stage::new()
        .env("STATE_DIR", state.display())
        .envs(variables)
        .start()
        .await
}

fn kill_9(product: &Product) {
    kill(
        Pid::from_raw(i32::try_from(product.pid()).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_nothing_that_was_answered_for() {
    let state = tempfile::tempdir().unwrap();
    let mut jobs: BTreeMap<String, u32> = BTreeMap::new();
    let mut assets: Vec<(Value, Vec<u8>)> = Vec::new();
    for round in 0_u32..4 {
        let product = start(state.path(), &[]).await;
        let answered = AtomicUsize::new(0);
        let load = async {
            for n in 0..40_u32 {
                let number = round * 1000 + n;
                let body = json!({
                    "workflow": coloured("kill", number),
                    "metadata": {"number": number.to_string()}
                });
                let sent = product
                    .http
                    .post(format!("{}/api/v2/jobs", product.url))
                    .header("idempotency-key", number.to_string())
                    .json(&body)
                    .send();
                let Ok(response) = sent.await else { break };
                if response.status() == 201
                    && let Ok(job) = response.json::<Value>().await
                {
                    jobs.insert(id(&job).to_owned(), number);
                }
                let data = format!("asset {number}").into_bytes();
                let sent = product
                    .http
                    .post(format!("{}/api/v2/assets", product.url))
                    .multipart(form(&data, "a.bin"))
                    .send();
                let Ok(response) = sent.await else { break };
                if let Ok(asset) = response.json::<Value>().await {
                    assets.push((asset, data));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let killing = async {
            tokio::time::sleep(Duration::from_millis(60 + u64::from(round) * 45)).await;
            // However slow the machine is, the last one has promised something.
            while round == 3 && answered.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            kill_9(&product);
        };
        tokio::join!(load, killing);
    }
    let product = start(state.path(), &[]).await;
    assert!(!jobs.is_empty() && !assets.is_empty());
    for (job, number) in &jobs {
        let job = ended(&product, job).await;
        assert_eq!(job["status"], "succeeded", "{job}\n{}", product.log.text());
        assert_eq!(job["metadata"]["number"], json!(number.to_string()));
        let outputs = job["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 1, "{job}");
        let data = bytes(&product, &outputs[0]).await;
        assert_eq!(
            outputs[0]["hash"],
            json!(format!("blake3:{}", blake3::hash(&data).to_hex()))
        );
        let again = product
            .http
            .post(format!("{}/api/v2/jobs", product.url))
            .header("idempotency-key", number.to_string());
        let again = again
            .json(&json!({"workflow": picture("x")}))
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 422, "the key of {number} is forgotten");
    }
    for (asset, data) in &assets {
        let (status, now) = product.get(&format!("/api/v2/assets/{}", id(asset))).await;
        assert_eq!(status, 200);
        assert_eq!(&bytes(&product, &now).await, data);
    }
    assert_eq!(
        std::fs::read_dir(state.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_crash_of_comfyui_is_survived_by_those_that_wait_and_by_the_one_that_runs_once() {
    let state = tempfile::tempdir().unwrap();
    let product = start(state.path(), &[("ALWAYS_RESTART_COMFYUI", "true")]).await;
    let running = submit(&product, &slow(1.5, 15)).await;
    let waiting = submit(&product, &picture("waits")).await;
    until("it runs", async || {
        let (_, job) = product.get(&format!("/api/v2/jobs/{}", id(&running))).await;
        (job["status"] == "running").then_some(())
    })
    .await;
    let crash = json!({"crash": 3});
    let _ = product
        .http
        .post(format!(
            "http://127.0.0.1:{}/simulator/faults",
            product.comfy_port
        ))
        .json(&crash)
        .send()
        .await;
    for job in [&running, &waiting] {
        let job = ended(&product, id(job)).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    // A job that kills ComfyUI must not circle.
    let faults = json!({"crash_class": {"SimSleep": 3}});
    product
        .http
        .post(format!(
            "http://127.0.0.1:{}/simulator/faults",
            product.comfy_port
        ))
        .json(&faults)
        .send()
        .await
        .unwrap();
    let deadly = submit(&product, &slow(0.1, 1)).await;
    until("it went back to the queue", async || {
        let (_, job) = product.get(&format!("/api/v2/jobs/{}", id(&deadly))).await;
        (product.log.count("the job waits to be sent to it again") >= 2 || has_ended(&job))
            .then_some(())
    })
    .await;
    until("ComfyUI is back, and deadly again", async || {
        let sent = product
            .http
            .post(format!(
                "http://127.0.0.1:{}/simulator/faults",
                product.comfy_port
            ))
            .json(&faults)
            .send()
            .await;
        let (_, job) = product.get(&format!("/api/v2/jobs/{}", id(&deadly))).await;
        (sent.is_ok() || has_ended(&job)).then_some(())
    })
    .await;
    let job = ended(&product, id(&deadly)).await;
    assert!(
        job["status"] == "failed" && job["error"]["code"] == "worker_lost"
            || job["status"] == "succeeded",
        "{job}"
    );
}

#[tokio::test]
async fn an_orderly_end_leaves_its_jobs_to_the_next_process() {
    let state = tempfile::tempdir().unwrap();
    let product = start(state.path(), &[("SHUTDOWN_GRACE_S", "0")]).await;
    let jobs = [
        submit(&product, &slow(20.0, 200)).await,
        submit(&product, &picture("next")).await,
    ];
    let secret = json!({
        "workflow": picture("secret"),
        "extra_data": {"api_key_comfy_org": "marked-secret"}
    });
    let secret = submit_with(&product, secret).await;
    let stream = product
        .http
        .get(format!(
            "{}/api/v2/jobs/{}/events",
            product.url,
            id(&jobs[0])
        ))
        .send()
        .await
        .unwrap();
    kill(
        Pid::from_raw(i32::try_from(product.pid()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let shown = stream.text().await.unwrap_or_default();
    assert!(
        !shown.contains("failed") && !shown.contains("canceled"),
        "{shown}"
    );
    product.log.line("shut down\"").await;
    let everything = std::fs::read(state.path().join("state.db")).unwrap();
    assert!(!everything.windows(13).any(|part| part == b"marked-secret"));
    drop(product);
    let product = start(state.path(), &[]).await;
    let (_, first) = product.get(&format!("/api/v2/jobs/{}", id(&jobs[0]))).await;
    assert!(!has_ended(&first), "{first}");
    product
        .post(&format!("/api/v2/jobs/{}/cancel", id(&jobs[0])), &json!({}))
        .await;
    assert_eq!(ended(&product, id(&jobs[1])).await["status"], "succeeded");
    let secret = ended(&product, id(&secret)).await;
    assert_eq!(
        (&secret["status"], &secret["error"]["code"]),
        (&json!("failed"), &json!("worker_lost"))
    );
}

#[tokio::test]
async fn what_is_past_its_time_is_gone() {
    let product = Stage::new()
        .envs(&[
            ("V2_RETENTION_HOURS", "0.0002"),
            ("V2_ASSET_RETENTION_HOURS", "0.0002"),
        ])
        .start()
        .await;
    let (_, asset) = upload(&product, form(b"soon gone", "a.bin")).await;
    let job = ended(&product, id(&submit(&product, &picture("gone")).await)).await;
    for path in [
        format!("/api/v2/jobs/{}", id(&job)),
        format!("/api/v2/assets/{}", id(&asset)),
        format!("/api/v2/assets/{}", id(&job["outputs"][0])),
    ] {
        until(&format!("{path} is gone"), async || {
            (product.get(&path).await.0 == 404).then_some(())
        })
        .await;
    }
    until("nothing is left on the disk", async || {
        let folders = std::fs::read_dir(product.path(".local/state/comfyui-api/blobs"))
            .unwrap()
            .flatten();
        (folders
            .map(|folder| std::fs::read_dir(folder.path()).unwrap().count())
            .sum::<usize>()
            == 0)
            .then_some(())
    })
    .await;
}

/// A product that attaches to the ComfyUI of another one, and takes up its state.
async fn next_server(first: &Product, port: u16, state: &Path) -> Product {
    Stage::new()
        .attached()
        .env("STATE_DIR", state.display())
        .env("COMFY_HOME", first.path("").display())
        .env("CACHE_DIR", first.path("cache").display())
        .env("COMFYUI_PORT_HOST", port)
        .start()
        .await
}

/// ComfyUI's ids of what runs and waits.
async fn in_comfyui(port: u16) -> Vec<String> {
    let queue: Value = reqwest::get(format!("http://127.0.0.1:{port}/queue"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    ["queue_running", "queue_pending"]
        .iter()
        .flat_map(|list| queue[*list].as_array().unwrap().clone())
        .map(|item| item[1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_job_in_an_attached_comfyui_is_watched_on_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    let stage = Stage::new()
        .attached()
        .env("STATE_DIR", state.path().display());
    let _comfyui = stage.simulator().await;
    let port = stage.comfy_port();
    let first = stage.start().await;
    let jobs = [
        submit(&first, &slow(3.0, 30)).await,
        submit(&first, &picture("next")).await,
    ];
    let before = in_comfyui(port).await;
    assert_eq!(before.len(), 2);
    kill_9(&first);
    let second = next_server(&first, port, state.path()).await;
    let after = in_comfyui(port).await;
    assert_eq!(after, before, "nothing is run again\n{}", second.log.text());
    for job in &jobs {
        let job = ended(&second, id(job)).await;
        assert_eq!(job["status"], "succeeded", "{job}\n{}", second.log.text());
        assert_eq!(job["outputs"].as_array().unwrap().len(), 1, "{job}");
    }
    let left = std::fs::read_dir(first.path("output")).unwrap().count();
    assert_eq!(left, 0, "ComfyUI's own files are removed as ever");
}

#[tokio::test]
async fn a_job_that_an_attached_comfyui_ended_meanwhile_is_collected() {
    let state = tempfile::tempdir().unwrap();
    let stage = Stage::new()
        .attached()
        .env("STATE_DIR", state.path().display());
    let _comfyui = stage.simulator().await;
    let port = stage.comfy_port();
    let first = stage.start().await;
    let mut graph = slow(1.0, 10);
    graph["8"] = json!({
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 5}
    });
    graph["9p"] = json!({"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}});
    let job = submit(&first, &graph).await;
    let cancelled = submit(&first, &slow(20.0, 20)).await;
    kill_9(&first);
    until("the first has ended", async || {
        (in_comfyui(port).await.len() == 1).then_some(())
    })
    .await;
    let second = next_server(&first, port, state.path()).await;
    let job = ended(&second, id(&job)).await;
    assert_eq!(job["status"], "succeeded", "{job}\n{}", second.log.text());
    assert!(
        second.log.text().contains("watched on"),
        "it is not run again"
    );
    let outputs = job["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2, "the preview too: {job}");
    for output in outputs {
        let data = bytes(&second, output).await;
        let hash = format!("blake3:{}", blake3::hash(&data).to_hex());
        assert_eq!(output["hash"], json!(hash));
    }
    let (status, _) = second
        .post(
            &format!("/api/v2/jobs/{}/cancel", id(&cancelled)),
            &json!({}),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(ended(&second, id(&cancelled)).await["status"], "canceled");
    until("ComfyUI is empty", async || {
        in_comfyui(port).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_log_of_a_job_in_an_attached_comfyui_is_kept() {
    let stage = Stage::new().attached();
    let _comfyui = stage.simulator().await;
    let product = stage.start().await;
    let job = submit(&product, &slow(0.3, 3)).await;
    ended(&product, id(&job)).await;
    let (status, logs) = product
        .get(&format!("/api/v2/jobs/{}/logs", id(&job)))
        .await;
    assert_eq!(status, 200, "{}", product.log.text());
    let text = logs["text"].as_str().unwrap();
    assert!(!text.is_empty() && !text.contains('\r'), "{logs}");
}
