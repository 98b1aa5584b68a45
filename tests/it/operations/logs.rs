//! `GET /logs`.

use serde_json::{Value, json};

use crate::support::graphs::slow;
use crate::support::product::{BINARY, Product, Stage, until};

async fn lines(product: &Product, query: &str) -> Vec<Value> {
    let (status, lines) = product.get(&format!("/logs?{query}")).await;
    assert_eq!(status, 200, "{lines}");
    lines.as_array().unwrap().clone()
}

fn with<'a>(lines: &'a [Value], part: &str) -> Vec<&'a Value> {
    let holds = |line: &&Value| line["text"].as_str().unwrap().contains(part);
    lines.iter().filter(holds).collect()
}

/// A ComfyUI that prints something of its own first.
fn printing(stage: Stage, script: &str) -> Stage {
    let (port, home) = (stage.comfy_port(), stage.path(""));
    let command = format!(
        "sh -c '{script}; exec {BINARY} simulate-comfyui --port {port} --base-directory {}'",
        home.display()
    );
    stage.command(&command)
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_both_are_there_without_colours_and_secrets() {
    let script = r#"printf "\033[31mred\033[0m %s at http://u:pw1@h.example/x?sig=1\n" "$HF_TOKEN"; echo "WARNING: careful"; echo "[ERROR] bad""#;
    let stage = Stage::new()
        .env("HF_TOKEN", "hf_marked-token")
        .env("LOG_LEVEL", "error");
    let product = printing(stage, script).launch_silent().await;
    let all = lines(&product, "lines=5000").await;
    let red = with(&all, "red ");
    assert_eq!(red[0]["text"], "red *** at http://h.example/x");
    assert_eq!(red[0]["source"], "comfyui");
    assert!(red[0]["time"].as_u64().unwrap() > 1_600_000_000_000);
    assert!(red[0].get("level").is_none() && red[0].get("prompt_id").is_none());
    assert_eq!(with(&all, "careful")[0]["level"], "warn");
    let bad = lines(&product, "level=error&source=comfyui").await;
    assert!(bad.iter().all(|line| line["level"] == "error"), "{bad:?}");
    assert_eq!(with(&bad, "bad").len(), 1);
    let none = lines(&product, "source=server").await;
    assert_eq!(
        none,
        Vec::<Value>::new(),
        "LOG_LEVEL=error has nothing to say"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_chosen_and_know_their_prompt() {
    let product = Product::start(&[]).await;
    product.run("first", &slow(0.3, 3)).await;
    product.run("second", &slow(0.3, 3)).await;
    let server = until("the end of the second is logged", async || {
        let server = lines(&product, "source=server").await;
        let ended = server.last()?["prompt_id"] == "second";
        ended.then_some(server)
    })
    .await;
    assert!(
        server
            .iter()
            .all(|line| line["source"] == "server" && line["level"].is_string())
    );
    assert!(!with(&server, "ready").is_empty());
    let first = lines(&product, "prompt_id=first&source=server").await;
    assert!(!first.is_empty());
    assert!(
        first.iter().all(|line| line["prompt_id"] == "first"),
        "{first:?}"
    );
    let times: Vec<u64> = server
        .iter()
        .map(|line| line["time"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted(), "oldest first");
    assert_eq!(lines(&product, "lines=3").await.len(), 3);
    let last = lines(&product, "lines=1&source=server").await;
    assert_eq!(last[0], *server.last().unwrap());
    let comfyui = lines(&product, "source=comfyui&lines=5000").await;
    assert!(comfyui.iter().all(|line| line["source"] == "comfyui"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comfyui_prints_while_it_executes_belongs_to_the_prompt() {
    // The child's output goes on while the simulator works.
    let script = r#"(for n in $(seq 200); do echo "tick $n"; sleep 0.05; done) &"#;
    let product = printing(Stage::new(), &script.replace(" &", " & :"))
        .start()
        .await;
    product.run("worked", &slow(0.6, 6)).await;
    let ticks = lines(&product, "source=comfyui&prompt_id=worked").await;
    assert!(!with(&ticks, "tick").is_empty(), "{ticks:?}");
    let all = lines(&product, "source=comfyui").await;
    assert!(
        with(&all, "tick")
            .iter()
            .any(|line| line.get("prompt_id").is_none()),
        "before it none was executed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let product = Product::start(&[]).await;
    for (query, location) in [
        ("source=nobody", "source"),
        ("level=loud", "level"),
        ("lines=0", "lines"),
        ("lines=5001", "lines"),
        ("lines=many", "lines"),
        ("lines=", "lines"),
    ] {
        let (status, body) = product.get(&format!("/logs?{query}")).await;
        assert_eq!(
            (status, &body["code"], &body["location"]),
            (400, &json!("invalid_request"), &json!(location)),
            "{query}: {body}"
        );
    }
    assert_eq!(product.get("/logs?prompt_id=&level=&other=1").await.0, 200);
}
