//! Reports that are odd, and files that are not there.

use serde_json::json;

use crate::support::graphs::{picture, with};
use crate::support::product::{Product, Stage, until};

#[tokio::test]
async fn odd_reports_are_read_and_skipped_outputs_are_warnings() {
    let product = Product::start(&[]).await;
    let odd = json!({"5": {"class_type": "SimNaN", "inputs": {"text": "not a number"}}});
    let answer = product.run("nan", &with(picture("odd"), odd)).await;
    assert_eq!(answer["texts"], json!({"5": ["not a number"]}));
    assert_eq!(answer["images"].as_array().unwrap().len(), 1);

    let bad = json!({"7": {"class_type": "SaveImage", "inputs": {"filename_prefix": "other"}}});
    let answer = product.run("skipped", &with(picture("good"), bad)).await;
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("node 7 (SaveImage)")
            && warning.contains("\"images\"")
            && warning.contains("required"),
        "{warning}"
    );
    assert_eq!(answer["filenames"], json!(["skipped_good_00001_.png"]));
    product.until_clean().await;
}

#[tokio::test]
async fn a_missing_file_is_a_warning_and_no_file_at_all_an_error() {
    let product = Product::start(&[]).await;
    // The blob vanishes while another node works.
    let graph = json!({"1": {
        "class_type": "SimBlob",
        "inputs": {"bytes": 10, "filename_prefix": "gone"}
    }, "2": {"class_type": "SimBlob", "inputs": {"bytes": 11, "filename_prefix": "kept"}},
        "5": {"class_type": "SimSleep", "inputs": {"seconds": 3, "steps": 30}}});
    let running = product.prompt_later(json!({"id": "m", "prompt": graph}));
    let gone = product.path("output/m_gone_00001_.bin");
    let vanished = until("the blob is there, or the prompt has ended", async || {
        let removed = std::fs::remove_file(&gone).is_ok();
        (removed || running.is_finished()).then_some(removed)
    })
    .await;
    assert!(vanished);
    let (status, answer) = running.await.unwrap();
    assert_eq!(
        (status, &answer["filenames"]),
        (200, &json!(["m_kept_00001_.bin"])),
        "{answer}"
    );
    assert!(
        answer["warnings"][0]
            .as_str()
            .unwrap()
            .contains("m_gone_00001_.bin"),
        "{answer}"
    );
    product.until_clean().await;

    let graph = json!({"2": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "x", "save_output": true}
    },
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}
        }});
    // A simulated ComfyUI whose output directory is another one than ours: everything it reports is
    // missing here.
    let elsewhere = Stage::new()
        .flags("--output-directory elsewhere")
        .start()
        .await;
    let (status, answer) = elsewhere
        .prompt(&json!({"id": "lost", "prompt": graph}))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (500, &json!("execution_error")),
        "{answer}"
    );
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("lost_x_00001_.png"),
        "{answer}"
    );
}
