//! What each is started with, and what becomes of a start that fails.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::{all_ready, quick, ran_in, runs};
use crate::support::product::{BINARY, Product, Stage, until};

/// A start script that writes down what it was told before it starts the simulator.
fn script(stage: &Stage, before: &str) -> String {
    let home = stage.path("").display().to_string();
    let text = format!(
        r#"#!/bin/sh
{{ env; for word in "$@"; do echo "word $word"; done; }} > {home}/told-${{COMFYUI_PORT_HOST}}
{before}
exec {BINARY} simulate-comfyui --base-directory {home} "$@"
"#
    );
    let path = stage.path("start.sh");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn told(product: &Product, index: u16) -> Vec<String> {
    let path = product.path(&format!("told-{}", product.comfy_port + index));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn value(lines: &[String], name: &str) -> Option<String> {
    let start = format!("{name}=");
    lines
        .iter()
        .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

fn gpus(stage: Stage, text: &str) -> Stage {
    let stage = stage.file("bin/nvidia-smi", format!("#!/bin/sh\nprintf '{text}'\n"));
    let tool = stage.path("bin/nvidia-smi");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        stage.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    stage.env("PATH", path)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_its_port_devices_and_temporary_folder() {
    let stage = Stage::new()
        .instances(2)
        .env("COMFYUI_DEVICES", "0;2, GPU-ab12");
    let command = script(&stage, "");
    let product = stage.command(&command).start().await;
    all_ready(&product, 2).await;
    for (index, devices) in [(0, "0"), (1, "2,GPU-ab12")] {
        let lines = told(&product, index);
        let port = (product.comfy_port + index).to_string();
        for name in [
            "CUDA_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
            "ASCEND_RT_VISIBLE_DEVICES",
        ] {
            assert_eq!(value(&lines, name).as_deref(), Some(devices), "{name}");
        }
        assert_eq!(
            value(&lines, "CUDA_DEVICE_ORDER").as_deref(),
            Some("PCI_BUS_ID")
        );
        assert_eq!(value(&lines, "COMFYUI_INSTANCE"), Some(index.to_string()));
        assert_eq!(value(&lines, "COMFYUI_PORT_HOST"), Some(port.clone()));
        let temp = product.path(&format!("instances/{index}"));
        assert!(temp.is_dir());
        let words: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("word "))
            .collect();
        let temp = temp.display().to_string();
        assert_eq!(
            words,
            [
                "--port",
                &port,
                "--temp-directory",
                &temp,
                "--database-url",
                "sqlite:///:memory:"
            ]
        );
    }
    let (_, status) = product.get("/status").await;
    assert_eq!(status["instances"][1]["devices"], "2,GPU-ab12", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_are_replaced_with_one_too_and_nothing_is_added() {
    let stage = Stage::new();
    let command = script(&stage, "");
    let port = stage.comfy_port();
    let command = format!(
        "{command} --port {{port}} '{{index}} {{{{port}}}} {{x}}' --temp-directory {{temp}}"
    );
    let product = stage.command(&command).start().await;
    let lines = told(&product, 0);
    let words: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("word "))
        .collect();
    let temp = product.path("instances/0").display().to_string();
    assert_eq!(
        words,
        [
            "--port",
            &port.to_string(),
            "0 {port} {x}",
            "--temp-directory",
            &temp
        ]
    );
    for name in [
        "COMFYUI_INSTANCE",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
    ] {
        assert_eq!(value(&lines, name), None, "{name}");
    }
    let body = product.run("a", &quick()).await;
    assert!(body["stats"]["comfy_execution"].get("instance").is_none());
    let (_, queue) = product.get("/queue").await;
    assert!(queue["finished"][0].get("instance").is_none(), "{queue}");
    let (_, status) = product.get("/status").await;
    assert!(status.get("instances").is_none(), "{status}");
    let (_, metrics) = product.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(!metrics.contains("comfyui=\"") && metrics.contains("comfyui_api_comfyui_up 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_for_each_gpu_that_is_shown_and_left() {
    let stage = gpus(
        Stage::new().instances(3),
        "0, GPU-a\\n1, GPU-b\\n2, GPU-c\\n",
    )
    .env("COMFYUI_INSTANCES", "auto")
    .env("CUDA_VISIBLE_DEVICES", "2,0,7,1");
    let command = script(&stage, "");
    let product = stage.command(&command).start().await;
    all_ready(&product, 2).await;
    for (index, gpu) in [(0, "2"), (1, "0")] {
        let lines = told(&product, index);
        assert_eq!(value(&lines, "CUDA_VISIBLE_DEVICES").as_deref(), Some(gpu));
    }
    drop(product);
    let stage = gpus(Stage::new().instances(2), "0, GPU-a\\n");
    let command = script(&stage, "");
    let product = stage.command(&command).start().await;
    all_ready(&product, 2).await;
    assert_eq!(value(&told(&product, 1), "CUDA_VISIBLE_DEVICES"), None);
    assert_eq!(
        product.log.count("COMFYUI_DEVICES"),
        1,
        "{}",
        product.log.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_there_is_named_and_ends_the_start_with_2() {
    let stage = gpus(Stage::new().instances(2), "0, GPU-a\\n1, GPU-b\\n");
    let mut product = stage.env("COMFYUI_DEVICES", "0;1,7").spawn();
    assert_eq!(product.ended().await.code(), Some(2));
    let line = product.log.line("COMFYUI_DEVICES").await;
    assert!(line.contains("device 7") && line.contains("0, 1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_before_anything_starts() {
    let stage = Stage::new().instances(3);
    let taken = stage.comfy_port() + 2;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let mut product = stage.spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    product.log.line(&format!("127.0.0.1:{taken}")).await;
    assert_eq!(product.log.count("ComfyUI started"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_come_up_is_fatal_only_when_none_does() {
    let stage = Stage::new().instances(2);
    let command = script(
        &stage,
        "[ $COMFYUI_INSTANCE = 1 ] && [ ! -e well ] && exit 3",
    );
    let product = stage.command(&command).start().await;
    assert_eq!(product.get("/health").await.0, 200);
    let body = product.run("a", &quick()).await;
    assert_eq!(ran_in(&body), 0);
    let line = product.log.line("could not be made ready").await;
    assert!(
        line.contains("\\\"$@\\\"") && line.contains("\"instance\":1"),
        "{line}"
    );
    std::fs::write(product.path("well"), "").unwrap();
    all_ready(&product, 2).await;
    drop(product);

    let stage = Stage::new().instances(2);
    let command = script(&stage, "echo oh no; exit 3");
    let mut product = stage.command(&command).spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    let line = product.log.line("ComfyUI 1: ").await;
    assert!(
        line.contains("ComfyUI 0: ") && line.contains("COMFYUI_PORT_HOST"),
        "{line}"
    );

    let stage = Stage::new()
        .instances(2)
        .env("ALWAYS_RESTART_COMFYUI", "false");
    let mut product = stage.start().await;
    all_ready(&product, 2).await;
    let crash = json!({"crash": 3});
    let url = format!(
        "http://127.0.0.1:{}/simulator/faults",
        product.comfy_port + 1
    );
    let _ = product.http.post(url).json(&crash).send().await;
    assert_eq!(product.ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_warmed_up_and_a_warmup_may_fail_in_one() {
    let graph =
        json!({"1": {"class_type": "SimNaN", "inputs": {}}, "9": quick()["9"], "2": quick()["1"]});
    let mut graph = graph;
    graph["9"]["inputs"]["images"] = json!(["2", 0]);
    let stage = Stage::new()
        .instances(2)
        .file("warm.json", graph.to_string());
    let warm = stage.path("warm.json").display().to_string();
    let home = stage.path("").display().to_string();
    let command = format!(
        "sh -c 'exec {BINARY} simulate-comfyui --base-directory {home} --node-ms 300 --fail-class \
         X{{index}}EmptyImage \"$@\"' x"
    );
    let product = stage
        .env("WARMUP_PROMPT_FILE", &warm)
        .command(&command)
        .start()
        .await;
    all_ready(&product, 2).await;
    let warmed = runs(&product, 2).await;
    assert_eq!(warmed, [1, 1]);
    drop(product);

    let stage = Stage::new()
        .instances(2)
        .file("warm.json", quick().to_string());
    let warm = stage.path("warm.json").display().to_string();
    let home = stage.path("").display().to_string();
    let command = format!(
        "sh -c 'if [ {{index}} = 1 ]; then f=EmptyImage; fi; exec {BINARY} simulate-comfyui \
         --base-directory {home} --fail-class \"N$f\" --fail-class \"$f\" \"$@\"' x"
    );
    let product = stage
        .env("WARMUP_PROMPT_FILE", &warm)
        .command(&command)
        .start()
        .await;
    product.log.line("but not warm").await;
    let pids = all_ready(&product, 2).await;
    until("both are there", async || (pids.len() == 2).then_some(())).await;
    assert_eq!(pids[1]["restarts"], 0, "{pids:?}");
}
