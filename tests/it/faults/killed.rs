//! A kill leaves nothing of clients' files: the next start removes what the journal names (A44).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::graphs::{loaded, picture, png, to_base64, with};
use crate::support::product::{Product, Stage, until};

/// Another process in the directories of the first, with a ComfyUI of its own or the one at `port`.
fn next(before: &Product, port: Option<u16>) -> Stage {
    let at = |name: &str| before.path(name).display().to_string();
    let stage = Stage::new()
        .env("COMFY_HOME", at(""))
        .env("CACHE_DIR", at("cache"));
    match port {
        Some(port) => stage.env("COMFYUI_PORT_HOST", port).attached(),
        None => {
            let port = stage.comfy_port();
            let binary = crate::support::product::BINARY;
            stage.command(&format!(
                "{binary} simulate-comfyui --port {port} --base-directory '{}'",
                at("")
            ))
        }
    }
}

/// A picture of the client's, and a node that holds the run.
fn held(prefix: &str) -> serde_json::Value {
    let mut graph = loaded(&to_base64(&png([1, 2, 3])));
    graph["9"] =
        json!({"class_type": "SimBlob", "inputs": {"bytes": 10, "filename_prefix": prefix}});
    let rest = json!({
        "8": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": format!("sub/{prefix}")}
        },
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "5": {"class_type": "SimSleep", "inputs": {"seconds": 60, "steps": 600, "value": ["1", 0]}},
    });
    with(graph, rest)
}

#[tokio::test]
async fn a_start_removes_what_a_killed_server_has_left() {
    let mut product = Product::start(&[]).await;
    std::fs::write(product.path("output/mine.png"), "the operator's").unwrap();
    std::fs::write(product.path("output/k_x_00001_.bin"), "there before").unwrap();
    std::fs::create_dir(product.path("input/mine")).unwrap();
    let _running = product.prompt_later(json!({"id": "k", "prompt": held("x")}));
    until("everything is written", async || {
        (product.path("output/k_x_00002_.bin").exists() && product.path("output/sub").exists())
            .then_some(())
    })
    .await;
    product.signal(Signal::SIGKILL);
    product.ended().await;
    assert!(product.path("input/k").exists());
    let second = next(&product, None).start().await;
    assert_eq!(
        product.leftovers(),
        ["input/mine", "output/k_x_00001_.bin", "output/mine.png"]
    );
    assert!(!product.path("output/sub").exists());
    // The same id again.
    let answer = second.run("k", &picture("x")).await;
    assert_eq!(answer["filenames"], json!(["k_x_00002_.png"]), "{answer}");
    until("the journal holds nobody", async || {
        let folders = std::fs::read_dir(product.path("cache/.in-flight"))
            .unwrap()
            .flatten();
        let files: Vec<_> = folders
            .flat_map(|dir| std::fs::read_dir(dir.path()).unwrap().flatten())
            .collect();
        // Files stay for the next prompts; one whose first line is cut off speaks of nobody.
        let of_nobody = |text: String| !text.starts_with('{');
        files
            .iter()
            .all(|file| std::fs::read_to_string(file.path()).is_ok_and(of_nobody))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_attached_comfyui_lets_go_of_what_a_killed_server_had_queued() {
    let stage = Stage::new().attached();
    let simulator = stage.simulator().await;
    let mut product = stage.start().await;
    let _running = product.prompt_later(json!({"id": "runs", "prompt": held("a")}));
    product.until_prompt("runs", "running").await;
    let _waiting = product.prompt_later(json!({"id": "waits", "prompt": held("b")}));
    product.until_prompt("waits", "pending").await;
    until("the first has written", async || {
        (product.path("output/runs_a_00001_.bin").exists()).then_some(())
    })
    .await;
    product.signal(Signal::SIGKILL);
    product.ended().await;
    let second = next(&product, Some(simulator.port())).start().await;
    until("nothing is left", async || {
        let queue = product.comfy("/queue").await;
        let history = product.comfy("/history").await;
        let temp = std::fs::read_dir(product.path("temp")).unwrap().count();
        (queue["queue_running"] == json!([])
            && queue["queue_pending"] == json!([])
            && history == json!({})
            && product.leftovers().is_empty()
            && temp == 0)
            .then_some(())
    })
    .await;
    second.run("runs", &picture("a")).await;
}

/// A living server's files are left alone by another one that starts on the same folders.
#[tokio::test]
async fn a_second_server_leaves_the_first_ones_files_alone() {
    let product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "lives", "prompt": held("x")}));
    until("it has written", async || {
        product
            .path("output/lives_x_00001_.bin")
            .exists()
            .then_some(())
    })
    .await;
    let _second = next(&product, None).start().await;
    assert!(
        product.path("output/lives_x_00001_.bin").exists() && product.path("input/lives").exists()
    );
    assert_eq!(product.delete("/prompt/lives").await.0, 200);
    assert_eq!(running.await.unwrap().0, 409);
    product.until_clean().await;
}
