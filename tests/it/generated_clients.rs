//! Clients made from the OpenAPI document by public generators (drop-in.md, D20) are used against
//! the server.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::origin::{Origin, Reply};
use crate::support::peer_process::{node_modules, python};
use crate::support::product::{Product, Stage};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/generated_clients");

async fn served() -> Product {
    let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows");
    Stage::new()
        .file("models/checkpoints/demo.safetensors", "")
        .env("WORKFLOW_DIR", workflows.display())
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await
}

async fn a_model() -> Origin {
    Origin::start(|_, _| Reply::ok(b"\x08\0\0\0\0\0\0\0{\"a\": 1}".to_vec())).await
}

async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_made_from_the_document_works() {
    let (product, origin) = (served().await, a_model().await);
    let folder = tempfile::tempdir().unwrap();
    let said = run(Command::new(python())
        .arg(format!("{SCRIPTS}/play.py"))
        .args([&product.url, &origin.url("/generated.safetensors")])
        .arg(folder.path())
        // ruff, which formats what was generated, lies beside Python.
        .env("PATH", with_python_first()))
    .await;
    assert!(said.contains("all of it works"), "{said}");
}

fn with_python_first() -> String {
    let beside = python().parent().map(PathBuf::from).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", beside.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_client_made_from_the_document_compiles_and_works() {
    let (product, origin) = (served().await, a_model().await);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(node_modules(), at("node_modules")).unwrap();
    std::fs::copy(format!("{SCRIPTS}/play.ts"), at("play.ts")).unwrap();
    std::fs::write(at("package.json"), r#"{"type": "module"}"#).unwrap();
    let tool = |name: &str| node_modules().join(".bin").join(name);
    run(Command::new(tool("openapi-typescript"))
        .args([
            &format!("{}/docs/json", product.url),
            "-o",
            "schema.d.ts",
            "--default-non-nullable",
            "false",
        ])
        .current_dir(folder.path()))
    .await;
    run(Command::new(tool("tsc"))
        .args(["--strict", "--target", "es2022", "--module", "es2022"])
        .args([
            "--moduleResolution",
            "bundler",
            "--types",
            "node",
            "play.ts",
        ])
        .current_dir(folder.path()))
    .await;
    let said = run(Command::new("node")
        .args([
            "play.js",
            &product.url,
            &origin.url("/generated.safetensors"),
        ])
        .current_dir(folder.path()))
    .await;
    assert!(said.contains("all of it works"), "{said}");
}
