//! What nodes report of their files.

use serde_json::{Value, json};

use super::until_clean;
use crate::support::product::Product;

/// F09: shapes of reports, and files that are not reported.
#[tokio::test]
async fn reports_of_every_shape_are_read() {
    let product = Product::start(&[]).await;
    std::fs::write(product.path("secret.txt"), "outside").unwrap();
    let cases: Vec<(&str, Value, Value, &[&str])> = vec![
        (
            "no type",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "subfolder": ""}]}),
            &["no-type_r.txt"],
        ),
        (
            "null type",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "type": null}]}),
            &["null-type_r.txt"],
        ),
        (
            "folder in name",
            json!({"sub/{prefix}.txt": "a"}),
            json!({"files": [{"filename": "sub\\{prefix}.txt", "subfolder": ""}]}),
            &["folder-in-name_r.txt"],
        ),
        (
            "leading slash",
            json!({"sub/{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "subfolder": "/sub"}]}),
            &["leading-slash_r.txt"],
        ),
        (
            "absolute",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{output}/{prefix}.txt"}]}),
            &["absolute_r.txt"],
        ),
        (
            "deep",
            json!({"{prefix}.txt": "a", "{prefix}2.txt": "b"}),
            json!({
                "x": {"y": [[{"filename": "{prefix}.txt"}], {"filename": "{prefix}.txt"}]},
                "z": {"filename": "{prefix}2.txt"}
            }),
            &["deep_r.txt", "deep_r2.txt"],
        ),
        (
            "bare",
            json!({"3d/{prefix}.glb": "a"}),
            json!({"result": ["3d/{prefix}.glb", {"camera": 1}, null]}),
            &["bare_r.glb"],
        ),
        (
            "bare absolute",
            json!({"3d/{prefix}.glb": "a"}),
            json!({"text": ["{output}/3d/{prefix}.glb"]}),
            &["bare-absolute_r.glb"],
        ),
        (
            "fixed",
            json!({"plain.txt": "a"}),
            json!({"files": [{"filename": "plain.txt"}]}),
            &["plain.txt"],
        ),
        (
            "nothing",
            json!({"{prefix}.txt": "a", "{prefix}_0001.glb": "b", "{prefix}_mask_00001_.png": "c"}),
            json!({}),
            &[
                "nothing_r.txt",
                "nothing_r_0001.glb",
                "nothing_r_mask_00001_.png",
            ],
        ),
        (
            "a text",
            json!({"{prefix}.txt": "a"}),
            json!({"text": ["saved"]}),
            &["a-text_r.txt"],
        ),
        (
            "a date",
            json!({"2026/11/28/{prefix}.txt": "a"}),
            json!({"images": []}),
            &["a-date_r.txt"],
        ),
        (
            "by-product",
            json!({"{prefix}.txt": "a", "{prefix}.json": "b", "{prefix}_00001_.tmp": "c"}),
            json!({"files": [{"filename": "{prefix}.txt"}]}),
            &["by-product_r.txt"],
        ),
        (
            "a preview",
            json!({"{prefix}.txt": "a", "temp:{prefix}.png": "t"}),
            json!({"images": [{"filename": "{prefix}.png", "type": "temp"}]}),
            &["a-preview_r.txt"],
        ),
    ];
    for (name, write, ui, expected) in cases {
        let id = name.replace(' ', "-");
        let graph = json!({
            "1": {
                "class_type": "SimReport",
                "inputs": {"filename_prefix": "r", "write": write.to_string(), "ui": ui.to_string()}
            }
        });
        let answer = product.run(&id, &graph).await;
        assert_eq!(answer["filenames"], json!(expected), "{name}: {answer}");
        assert_eq!(answer["warnings"], json!([]), "{name}");
        // From the cache as well.
        let again = product.run(&id, &graph).await;
        assert_eq!(again["filenames"], answer["filenames"], "{name}");
    }
    let outside = json!({"1": {"class_type": "SimReport", "inputs": {"filename_prefix": "r", "write": "{\"{prefix}.txt\": \"a\"}",
        "ui": json!({
            "files": [
                {"filename": "{prefix}.txt"},
                {"filename": "../secret.txt"},
                {"filename": "{output}/../secret.txt"}
            ]
        }).to_string()}}});
    let answer = product.run("outside", &outside).await;
    assert_eq!(answer["filenames"], json!(["outside_r.txt"]));
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2, "{answer}");
    // ComfyUI's own 3D nodes, the same twice.
    let save =
        json!({"1": {"class_type": "Save3DAdvanced", "inputs": {"filename_prefix": "3d/x"}}});
    for _ in 0..2 {
        let answer = product.run("solid", &save).await;
        assert_eq!(answer["filenames"], json!(["solid_x_00001_.glb"]));
        assert_eq!(
            (&answer["texts"], &answer["outputs"][0]["output"]),
            (&json!({}), &json!("result"))
        );
    }
    until_clean(&product).await;
    let left: Vec<_> = std::fs::read_dir(product.path("output"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != "checkpoints")
        .collect();
    let left: Vec<_> = left
        .iter()
        .map(|entry| entry.file_name())
        .filter(|name| {
            !["loras", "vae", "clip", "diffusion_models"]
                .iter()
                .any(|own| name == own)
        })
        .collect();
    assert!(left.is_empty(), "folders that came with a prompt: {left:?}");
}
