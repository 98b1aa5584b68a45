//! The way down.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::graphs::{picture, slow};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{BINARY, Product, Stage, until};
use crate::support::sse::Sse;

#[tokio::test]
async fn a_prompt_in_flight_may_finish() {
    let hook = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_millis(500)),
        ..Reply::ok("")
    })
    .await;
    let mut product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let waiting = product.prompt_later(json!({"id": "w", "prompt": slow(6.0, 20)}));
    product.until_prompt("w", "running").await;
    assert_eq!(
        product
            .prompt(&json!({"id": "h", "prompt": picture("p"), "webhook_v2": hook.url("/")}))
            .await
            .0,
        202
    );
    let attached = product
        .http
        .get(format!("{}/prompt/w/events", product.url))
        .send()
        .await
        .unwrap();
    product.signal(Signal::SIGTERM);
    product.until_status("/ready", 503).await;
    let (status, answer) = product.prompt(&json!({"prompt": picture("p")})).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("shutting_down")),
        "{answer}"
    );
    assert_eq!(product.get("/health").await.0, 200);
    let (status, answer) = waiting.await.unwrap();
    assert_eq!(
        (status, answer["images"].as_array().map(Vec::len)),
        (200, Some(1)),
        "{answer}"
    );
    assert_eq!(
        Sse::new(attached).rest().await.last().unwrap().name,
        "complete"
    );
    assert_eq!(product.ended().await.code(), Some(0));
    let told: Value = serde_json::from_slice(&hook.requests()[0].body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"]),
        (&json!("prompt.complete"), &json!("h"))
    );
    assert_eq!(product.leftovers(), Vec::<String>::new());
    assert!(
        !product.path("temp").exists(),
        "ComfyUI was asked to stop, not killed"
    );
    let port = product.comfy_port;
    until("ComfyUI is gone", async || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_grace_prompts_are_given_up() {
    let mut product = Product::start(&[("SHUTDOWN_GRACE_S", "0")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    let pending = product.prompt_later(json!({"id": "p", "prompt": picture("p")}));
    product.until_prompt("p", "pending").await;
    let before = Instant::now();
    product.signal(Signal::SIGINT);
    for prompt in [running, pending] {
        let (status, answer) = prompt.await.unwrap();
        assert_eq!(
            (status, &answer["code"]),
            (503, &json!("shutting_down")),
            "{answer}"
        );
    }
    assert_eq!(product.ended().await.code(), Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(product.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn the_grace_period_is_one_period() {
    let mut product = Product::start(&[("SHUTDOWN_GRACE_S", "2")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 0)}));
    product.until_prompt("r", "running").await;
    let before = Instant::now();
    product.signal(Signal::SIGTERM);
    let (status, answer) = running.await.unwrap();
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("shutting_down")),
        "{answer}"
    );
    assert_eq!(product.ended().await.code(), Some(0));
    assert!(
        before.elapsed() >= Duration::from_secs(2) && before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_now() {
    let mut product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    product.signal(Signal::SIGTERM);
    product.log.line("shutting down").await;
    let before = Instant::now();
    product.signal(Signal::SIGTERM);
    product.ended().await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    running.abort();
    until_free(product.comfy_port).await;
}

#[tokio::test]
async fn a_second_signal_ends_what_a_start_script_has_started_too() {
    let stage = Stage::new();
    let simulator = format!(
        "{BINARY} simulate-comfyui --port {} --base-directory '{}'",
        stage.comfy_port(),
        stage.path("").display()
    );
    let script = stage.path("init.sh");
    let mut product = stage
        .file("init.sh", format!("{simulator}\necho ended\n"))
        .command(&format!("sh {}", script.display()))
        .start()
        .await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    product.signal(Signal::SIGTERM);
    product.log.line("shutting down").await;
    product.signal(Signal::SIGTERM);
    product.ended().await;
    running.abort();
    until_free(product.comfy_port).await;
}

#[tokio::test]
async fn while_it_starts_or_waits() {
    let mut starting = Stage::new().flags("--slow-start 60").launch().await;
    starting.log.line("ComfyUI started").await;
    let before = Instant::now();
    assert_eq!(starting.stop().await, Some(0));
    let mut idle = Product::start(&[]).await;
    assert_eq!(idle.stop().await, Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}

/// A start script that does not `exec`, in two layers.
fn layered(stage: Stage) -> Stage {
    let simulator = format!(
        "{BINARY} simulate-comfyui --port {} --base-directory '{}'",
        stage.comfy_port(),
        stage.path("").display()
    );
    let (outer, inner) = (stage.path("init.sh"), stage.path("inner.sh"));
    stage
        .file("inner.sh", format!("{simulator}\necho ended\n"))
        .file("init.sh", format!("sh {}\necho ended\n", inner.display()))
        .command(&format!("sh {}", outer.display()))
}

async fn until_free(port: u16) {
    until("nobody listens on ComfyUI's port", async || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    })
    .await;
}

/// As SIGHUP under `nohup`, or SIGQUIT in a shell's background: the product inherits it from these
/// tests.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    ignored & 1 << (signal as i32 - 1) != 0
}

/// A45: whatever ends us, the whole group ends.
#[tokio::test]
async fn nothing_that_a_start_script_has_started_outlives_us() {
    let deadly = [Signal::SIGKILL, Signal::SIGQUIT, Signal::SIGABRT];
    for signal in deadly.into_iter().filter(|signal| !is_ignored(*signal)) {
        let mut product = layered(Stage::new()).start().await;
        product.signal(signal);
        product.ended().await;
        until_free(product.comfy_port).await;
    }
    // A stop like any other, unless whoever started us wants us to outlive the terminal: then these
    // tests do, too.
    let mut product = layered(Stage::new()).start().await;
    product.signal(Signal::SIGHUP);
    if is_ignored(Signal::SIGHUP) {
        assert_eq!(product.get("/ready").await.0, 200);
        product.signal(Signal::SIGTERM);
    }
    assert_eq!(product.ended().await.code(), Some(0));
    until_free(product.comfy_port).await;
}

/// A45: the guard is killed with us, as a cleanup by name does.
#[tokio::test]
async fn a_comfyui_that_a_dead_instance_has_left_behind_is_ended() {
    let stage = layered(Stage::new());
    let (port, home) = (stage.comfy_port(), stage.path(""));
    let mut dead = stage.start().await;
    let children = std::fs::read_dir("/proc").unwrap().flatten();
    let guards: Vec<i32> = children
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
            let ours = format!("PPid:\t{}\n", dead.pid());
            read("comm").is_ok_and(|name| name.trim() == "comfyui-guard")
                && read("status").is_ok_and(|status| status.contains(&ours))
        })
        .collect();
    assert_eq!(guards.len(), 1, "one guard");
    for pid in guards {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    dead.signal(Signal::SIGKILL);
    dead.ended().await;
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("ComfyUI lives on");
    let simulator = format!(
        "{BINARY} simulate-comfyui --port {port} --base-directory '{}'",
        home.display()
    );
    let next = Stage::new()
        .env("COMFYUI_PORT_HOST", port)
        .command(&simulator)
        .start()
        .await;
    assert_eq!(next.log.count("that instance is dead, so it is ended"), 1);
    // One whose instance lives is left alone.
    let mut refused = Stage::new()
        .env("COMFYUI_PORT_HOST", port)
        .command(&simulator)
        .spawn();
    assert_eq!(refused.ended().await.code(), Some(1));
    assert!(refused.log.text().contains("something already answers"));
    assert_eq!(next.get("/ready").await.0, 200);
}

/// A15
#[tokio::test]
async fn comfyui_does_not_get_the_servers_own_secrets() {
    let secrets = [
        ("API_KEYS", "kept-1"),
        ("WEBHOOK_SECRET", "kept-2-0123456789abcdef0123456789"),
        ("HTTP_AUTH_HEADER_VALUE", "kept-3"),
        ("HTTP_AUTH_HEADER_NAME", "x-auth"),
        ("AZURE_STORAGE_SAS_TOKEN", "kept-4"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=kept-5"),
        ("HF_TOKEN", "passed-1"),
        ("AWS_SECRET_ACCESS_KEY", "passed-2"),
        ("SALAD_MACHINE_ID", "passed-3"),
    ];
    for (pass, expected) in [
        ("", vec![]),
        ("AZURE_*, API_KEYS", vec!["kept-1", "kept-4"]),
    ] {
        let mut product = Stage::new()
            .envs(&secrets)
            .env("COMFYUI_PASS_ENV", pass)
            .command("sh -c 'env | base64 -w0; exit 7'")
            .spawn();
        let line = product.log.line("\"source\":\"comfyui\"").await;
        product.ended().await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let bytes = crate::support::graphs::from_base64(&line["msg"]);
        let environment = String::from_utf8(bytes).unwrap();
        for (_, value) in secrets {
            let passed = value.starts_with("passed") || value == "x-auth";
            let expected = passed || expected.contains(&value);
            assert_eq!(
                environment.contains(value),
                expected,
                "{value}\n{environment}"
            );
        }
    }
}
