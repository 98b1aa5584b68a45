//! The judges: the official clients, unchanged.

use std::time::Duration;

use tokio::process::Command;

use crate::support::graphs;
use crate::support::peer_process::{node_modules, python};
use crate::support::product::{BINARY, Product, Stage};

/// Some work for a real ComfyUI, on a processor.
const PATIENCE: Duration = Duration::from_secs(600);

async fn said(mut command: Command, product: &Product) -> String {
    command
        .env("NO_PROXY", "127.0.0.1,localhost")
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("in time")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}\n{complained}\n{}",
        product.log.text()
    );
    said
}

fn script(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn product() -> Product {
    let workflow = serde_json::json!({
        "summary": "A square",
        "input": {
            "type": "object",
            "properties": {
                "width": {"type": "integer", "minimum": 16, "maximum": 64, "default": 32}
            }
        },
        "bind": {"width": "1.inputs.width"},
        "prompt": graphs::picture("bound"),
    });
    Stage::new()
        .env("API_KEYS", "sesame")
        .file("workflows/square.json", workflow.to_string())
        .start()
        .await
}

#[tokio::test]
async fn the_python_client_works_in_both_eras_over_http_and_stdio() {
    let product = product().await;
    let mut command = Command::new(python());
    command
        .arg(script("mcp_python.py"))
        .arg(format!("{}/mcp", product.url))
        .arg(BINARY)
        .env("COMFYUI_API_KEY", "sesame");
    assert!(said(command, &product).await.trim_end().ends_with("ok"));
}

#[tokio::test]
async fn every_answer_has_the_shape_of_its_revision() {
    let product = product().await;
    let mut command = Command::new(python());
    command
        .arg(script("mcp_schemas.py"))
        .arg(format!("{}/mcp", product.url))
        .env("COMFYUI_API_KEY", "sesame");
    assert!(said(command, &product).await.trim_end().ends_with("ok"));
}

/// A workflow for `mcp_agent.py`.
pub fn turning() -> String {
    serde_json::json!({
        "summary": "Other colours",
        "input": {
            "type": "object",
            "properties": {
                "image": {"type": "string"},
                "width": {"type": "integer", "minimum": 16, "maximum": 512, "default": 64},
            },
            "required": ["image"],
        },
        "bind": {"image": "1.inputs.image", "width": "2.inputs.width"},
        "prompt": {
            "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
            "2": {"class_type": "ImageScale", "inputs": {
                "image": ["1", 0], "upscale_method": "bilinear", "width": 64, "height": 0,
                "crop": "disabled"}},
            "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["3", 0], "filename_prefix": "turned"}
            },
        },
    })
    .to_string()
}

/// The whole way of an agent; the id of the job that it leaves running.
pub async fn agent_works(product: &Product) -> String {
    let mut command = Command::new(python());
    command
        .arg(script("mcp_agent.py"))
        .arg(format!("{}/mcp", product.url))
        .arg(BINARY);
    let text = said(command, product).await;
    text.trim_end().lines().last().unwrap().to_owned()
}

/// What it has left is there after a restart.
pub async fn agent_fetches(product: &Product, id: &str) {
    let mut command = Command::new(python());
    command
        .arg(script("mcp_agent.py"))
        .arg(format!("{}/mcp", product.url))
        .args([BINARY, id]);
    assert!(said(command, product).await.trim_end().ends_with("ok"));
}

#[tokio::test]
async fn an_agent_goes_its_whole_way() {
    let state = tempfile::tempdir().unwrap();
    let start = async || {
        Stage::new()
            .env("STATE_DIR", state.path().display())
            .file("workflows/turn.json", turning())
            .start()
            .await
    };
    let mut first = start().await;
    let id = agent_works(&first).await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.ended().await;
    agent_fetches(&start().await, &id).await;
}

#[tokio::test]
async fn the_entries_of_the_readme_work_as_they_are() {
    let product = product().await;
    let port = product.url.rsplit(':').next().unwrap().to_owned();
    let mut command = Command::new(python());
    command
        .arg(script("mcp_configurations.py"))
        .arg(format!("{}/README.md", env!("CARGO_MANIFEST_DIR")))
        .arg(port)
        .arg(BINARY);
    assert!(said(command, &product).await.trim_end().ends_with("ok"));
}

#[tokio::test]
async fn the_typescript_clients_work() {
    let product = product().await;
    let mut command = Command::new("node");
    command
        .arg(script("mcp_typescript.mjs"))
        .arg(format!("{}/mcp", product.url))
        .env("TEST_NODE_MODULES", node_modules())
        .env("COMFYUI_API_KEY", "sesame");
    assert!(said(command, &product).await.trim_end().ends_with("ok"));
}

#[tokio::test]
async fn the_inspector_works() {
    let product = product().await;
    for (arguments, expected) in [
        (&["--method", "tools/list"][..], "\"run_graph\""),
        (&["--method", "resources/list"], "comfyui://logs/comfyui"),
        (
            &[
                "--method",
                "tools/call",
                "--tool-name",
                "square",
                "--tool-arg",
                "width=20",
            ],
            "succeeded",
        ),
    ] {
        let mut command = Command::new("node");
        command
            .arg(
                node_modules()
                    .join("@modelcontextprotocol/inspector/clients/launcher/build/index.js"),
            )
            .args([
                "--cli",
                &format!("{}/mcp", product.url),
                "--header",
                "Authorization: Bearer sesame",
            ])
            .args(arguments);
        let text = said(command, &product).await;
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn the_conformance_scenarios_that_need_no_test_tools_pass() {
    let product = Product::start(&[]).await;
    for scenario in [
        "server-initialize",
        "ping",
        "tools-list",
        "resources-list",
        "dns-rebinding-protection",
    ] {
        // It needs a newer Node.js than the other peers.
        let mut command = Command::new(node_modules().join("node22/bin/node"));
        command
            .arg(node_modules().join("@modelcontextprotocol/conformance/dist/index.js"))
            .args([
                "server",
                "--url",
                &format!("{}/mcp", product.url.replace("127.0.0.1", "localhost")),
                "--scenario",
                scenario,
            ]);
        let text = said(command, &product).await;
        assert!(text.contains(" 0 failed"), "{text}");
    }
}
