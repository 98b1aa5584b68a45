//! Who gets a job.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{lasting, quick, ran_in, runs, several, with_model};
use crate::support::graphs::{png, with};
use crate::support::product::{Product, Stage, free_ports, until};

#[tokio::test(flavor = "multi_thread")]
async fn work_is_shared_and_each_job_runs_once() {
    let product = several(3, &[]).await;
    let began = Instant::now();
    let jobs: Vec<_> = (0..9)
        .map(|n| product.prompt_later(json!({"id": format!("j{n}"), "prompt": lasting(0.5)})))
        .collect();
    let mut by = BTreeMap::new();
    for job in jobs {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{body}");
        *by.entry(ran_in(&body)).or_insert(0) += 1;
    }
    assert!(
        began.elapsed() < Duration::from_millis(3500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(by.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{by:?}");
    assert_eq!(runs(&product, 3).await.iter().sum::<u64>(), 9);
    let first = product.run("k", &quick()).await;
    assert_eq!(ran_in(&first), 0, "the first of equals");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_one_takes_over_what_waits_elsewhere() {
    let product = several(2, &[]).await;
    let long = product.prompt_later(json!({"id": "long", "prompt": lasting(4.0)}));
    product.until_prompt("long", "running").await;
    let mut short = Vec::new();
    for n in 0..8 {
        short.push(product.prompt_later(json!({"id": format!("s{n}"), "prompt": lasting(0.1)})));
        queued(&product, &format!("s{n}")).await;
    }
    let began = Instant::now();
    for job in short {
        let (status, body) = job.await.unwrap();
        assert_eq!((status, ran_in(&body)), (200, 1), "{body}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let (_, body) = long.await.unwrap();
    assert_eq!(ran_in(&body), 0);
    assert_eq!(runs(&product, 2).await, [1, 8]);
}

/// Waits until a ComfyUI has it.
async fn queued(product: &Product, id: &str) {
    until("it is queued", async || {
        let (_, entry) = product.get(&format!("/prompt/{id}")).await;
        let status = entry["status"].as_str()?.to_owned();
        (status != "preprocessing").then_some(())
    })
    .await;
}

/// Two models in turn, all at once: how often each changes its model.
#[tokio::test(flavor = "multi_thread")]
async fn two_models_in_turn_stay_where_they_are() {
    for at_once in [true, false] {
        let stage = Stage::new().instances(2);
        let stage = stage.file("models/checkpoints/a.safetensors", "a");
        let stage = stage.file("models/checkpoints/b.safetensors", "b");
        let product = stage.start().await;
        super::all_ready(&product, 2).await;
        let mut ended: Vec<(u64, u64, &str)> = Vec::new();
        let mut jobs = Vec::new();
        for n in 0..24 {
            let model = ["a.safetensors", "b.safetensors"][n % 2];
            let body = json!({"id": format!("j{n}"), "prompt": with_model(model, 0.05)});
            if at_once {
                jobs.push((model, product.prompt_later(body)));
                continue;
            }
            let (status, body) = product.prompt(&body).await;
            assert_eq!(status, 200, "{body}");
            ended.push((
                body["stats"]["comfy_execution"]["start"].as_u64().unwrap(),
                ran_in(&body),
                model,
            ));
        }
        for (model, job) in jobs {
            let (status, body) = job.await.unwrap();
            assert_eq!(status, 200, "{body}");
            ended.push((
                body["stats"]["comfy_execution"]["start"].as_u64().unwrap(),
                ran_in(&body),
                model,
            ));
        }
        ended.sort_unstable();
        let changes = |index: u64| {
            let models: Vec<&str> = ended
                .iter()
                .filter(|one| one.1 == index)
                .map(|one| one.2)
                .collect();
            models.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        assert!(changes(0) + changes(1) <= 4, "{at_once} {ended:?}");
        let (_, status) = product.get("/status").await;
        assert!(
            status["instances"][0]["models"][0]
                .as_str()
                .unwrap()
                .starts_with("checkpoints/"),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fixed_names_go_one_after_the_other() {
    let product = several(2, &[]).await;
    let graph = |colour: u32| {
        json!({"1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": colour}
        },
               "9": {
                   "class_type": "SaveImage",
                   "inputs": {"images": ["1", 0], "filename_prefix": ["3", 0]}
               },
               "3": {"class_type": "PrimitiveString", "inputs": {"value": "fixed"}}})
    };
    let jobs: Vec<_> = (1..9_u32)
        .map(|n| {
            (
                n,
                product.prompt_later(json!({"id": format!("f{n}"), "prompt": graph(n)})),
            )
        })
        .collect();
    for (n, job) in jobs {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{body}");
        let colour = crate::support::graphs::colour_of(&body["images"][0]);
        assert_eq!(u32::from(colour[2]), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_inputs_classes_and_order() {
    let stage = Stage::new().instances(2).file("instances/1/keep", "");
    let product = stage.start().await;
    super::all_ready(&product, 2).await;
    let temp = product.path("instances/1/temp");
    std::fs::create_dir_all(&temp).unwrap();
    std::fs::write(temp.join("x.png"), png([1, 2, 3])).unwrap();
    let graph = crate::support::graphs::loaded("x.png [temp]");
    for n in 0..2 {
        let body = product.run(&format!("t{n}"), &graph).await;
        assert_eq!(ran_in(&body), 1);
    }
    // Both are busy; what is to be in front is.
    let mut busy = Vec::new();
    for n in 0..2 {
        busy.push(product.prompt_later(json!({"id": format!("b{n}"), "prompt": lasting(1.0)})));
        product.until_prompt(&format!("b{n}"), "running").await;
    }
    let mut waiting = Vec::new();
    for (n, front) in [false, false, true, true].into_iter().enumerate() {
        let body = json!({"id": format!("w{n}"), "prompt": lasting(0.3), "front": front});
        waiting.push(product.prompt_later(body));
        product.until_prompt(&format!("w{n}"), "pending").await;
    }
    let mut starts = Vec::new();
    for job in waiting {
        let (status, body) = job.await.unwrap();
        assert_eq!(status, 200, "{body}");
        starts.push(body["stats"]["comfy_execution"]["start"].as_u64().unwrap());
    }
    assert!(
        starts[2].max(starts[3]) < starts[0].min(starts[1]),
        "{starts:?}"
    );
}

/// Two that run already, of which only one has a class.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_one_has_alone_and_temporary_files_over_http() {
    let stage = Stage::new();
    let first = free_ports(2);
    let home = stage.path("").display().to_string();
    let start = |index: u16, flags: &str| {
        tokio::process::Command::new(crate::support::product::BINARY)
            .args([
                "simulate-comfyui",
                "--base-directory",
                &home,
                "--port",
                &(first + index).to_string(),
            ])
            .args(["--temp-directory", &format!("{home}/t{index}")])
            .args(shell_words::split(flags).unwrap())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let _running = [start(0, "--without-class SimSleep"), start(1, "")];
    let urls = format!("http://127.0.0.1:{first}, 127.0.0.1:{}", first + 1);
    let product = stage.attached().env("COMFYUI_URLS", urls).start().await;
    super::all_ready(&product, 2).await;
    for n in 0..3 {
        let body = product.run(&format!("c{n}"), &lasting(0.1)).await;
        assert_eq!(ran_in(&body), 1);
    }
    let body = product.run("any", &quick()).await;
    assert_eq!(ran_in(&body), 0);
    let preview = with(
        json!({"1": quick()["1"]}),
        json!({"5": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}),
    );
    let body = product.run("p", &preview).await;
    assert_eq!(body["images"].as_array().map(Vec::len), Some(1), "{body}");
    // Kept, too: alone, and beside a file that is saved.
    let mut both = quick();
    both["5"] = preview["5"].clone();
    for (graph, kept) in [(&preview, 1), (&both, 2)] {
        let (status, job) = product
            .post("/api/v2/jobs", &json!({"workflow": graph}))
            .await;
        assert_eq!(status, 201, "{job}");
        let job = crate::v2::ended(&product, job["id"].as_str().unwrap()).await;
        let outputs = job["outputs"].as_array().map(Vec::len);
        assert_eq!(
            (&job["status"], outputs),
            (&json!("succeeded"), Some(kept)),
            "{job}"
        );
    }
    assert_eq!(
        product.log.count("an output is not kept"),
        0,
        "{}",
        product.log.text()
    );
    let (_, refused) = product
        .prompt(&json!({"prompt": {"1": {"class_type": "Nobodys", "inputs": {}}}}))
        .await;
    assert_eq!(refused["code"], "invalid_prompt", "{refused}");
    let free: Value = product
        .post("/free", &json!({"unload_models": true}))
        .await
        .1;
    assert_eq!(free["unload_models"], true, "{free}");
    assert_eq!(product.post("/restart", &json!({})).await.0, 409);
}
