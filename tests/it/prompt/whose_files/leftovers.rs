//! Temporary files and empty folders.

use serde_json::json;

use super::{saved_by, until_clean};
use crate::support::graphs::{colour_of, picture, with};
use crate::support::product::{Product, Stage, until};

/// F21: temporary files where ComfyUI's command line says, or from ComfyUI itself.
#[tokio::test]
async fn temporary_files_are_found_elsewhere() {
    let preview = saved_by(
        0x0044_5566,
        json!({"class_type": "PreviewImage", "inputs": {}}),
    );
    let stage = Stage::new();
    let temp = stage.path("elsewhere");
    let product = stage
        .flags(&format!("--temp-directory '{}'", temp.display()))
        .start()
        .await;
    let answer = product.run("a", &preview).await;
    assert_eq!(colour_of(&answer["images"][0]), [0x44, 0x55, 0x66]);
    until("the file is gone", async || {
        std::fs::read_dir(temp.join("temp"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    })
    .await;
    // One that runs in a container of its own: its folders are not ours.
    let stage = Stage::new().attached();
    let remote = Stage::new();
    let simulator = remote.simulator().await;
    let product = stage
        .env("COMFYUI_PORT_HOST", simulator.port())
        .start()
        .await;
    std::fs::rename(remote.path("temp"), remote.path("hidden")).unwrap();
    std::os::unix::fs::symlink(remote.path("hidden"), remote.path("temp")).unwrap();
    let answer = product.run("b", &preview).await;
    assert_eq!(colour_of(&answer["images"][0]), [0x44, 0x55, 0x66]);
}

/// F16: folders that came with a prompt go with it, those that were there stay.
#[tokio::test]
async fn empty_folders_go_unless_they_were_there() {
    let product = Product::start(&[]).await;
    std::fs::create_dir_all(product.path("output/kept/empty")).unwrap();
    let slow = with(
        picture("shared/slow"),
        json!({"5": {"class_type": "SimSleep", "inputs": {"seconds": 30, "steps": 300}}}),
    );
    let running = product.prompt_later(json!({"id": "slow", "prompt": slow}));
    product.until_prompt("slow", "running").await;
    std::fs::create_dir_all(product.path("output/shared")).unwrap();
    let failing = with(
        picture("failed/deep/x"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "no", "value": ["1", 0]}}}),
    );
    let waiting: Vec<_> = [
        ("one", picture("video/take")),
        ("two", picture("kept/empty/x")),
        ("three", picture("shared/x")),
        ("four", failing),
    ]
    .map(|(id, graph)| {
        product.prompt_later(json!({"id": id, "prompt": graph, "compress_outputs": id == "one"}))
    })
    .into();
    product.until_prompt("three", "pending").await;
    assert_eq!(product.delete("/prompt/slow").await.0, 200);
    assert_eq!(running.await.unwrap().0, 409);
    for (answer, status) in waiting.into_iter().zip([200, 200, 200, 500]) {
        let (found, body) = answer.await.unwrap();
        assert_eq!(found, status, "{body}");
    }
    until_clean(&product).await;
    until("the folders are gone", async || {
        ["video", "failed", "shared"]
            .iter()
            .all(|name| !product.path("output").join(name).exists())
            .then_some(())
    })
    .await;
    assert!(product.path("output/kept/empty").exists());
}
