//! The judges: both official SDKs, unchanged.

use tokio::process::Command;

use super::PATIENCE;
use crate::support::peer_process::{node_modules, python};
use crate::support::product::Product;

async fn run(mut command: Command, product: &Product, key: &str) {
    let directory = tempfile::tempdir().unwrap();
    command
        .arg(directory.path())
        .env("COMFY_BASE_URL", &product.url)
        .env("COMFY_API_KEY", key)
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("in time")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.trim_end().ends_with("ok"),
        "{said}\n{complained}\n{}",
        product.log.text()
    );
}

fn script(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_python_sdk_works_sync_and_async() {
    let product = Product::start(&[]).await;
    let mut command = Command::new(python());
    command.arg(script("sdk_python.py"));
    run(command, &product, "").await;
}

#[tokio::test]
async fn the_typescript_sdk_works_with_a_key() {
    let product = Product::start(&[("API_KEYS", "sesame")]).await;
    let mut command = Command::new("node");
    command
        .arg(script("sdk_typescript.mjs"))
        .env("TEST_NODE_MODULES", node_modules());
    // `until_ready` needs no key, the SDK does.
    run(command, &product, "sesame").await;
}
