//! Directories of pictures, and the archives that fill them.

use serde_json::{Value, json};

use super::{BLUE, RED, directory, zip};
use crate::support::graphs::{colour_of, png, to_base64};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn directories_of_pictures() {
    let origin = Origin::start(|_, _| Reply::ok(png(BLUE)).with("Content-Type", "image/png")).await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .file("input/here/a.png", png(RED))
        .file("input/one.png", png(RED))
        .start()
        .await;
    let colours = |answer: &Value| -> Vec<[u8; 3]> {
        answer["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(colour_of)
            .collect()
    };

    let list = json!([
        to_base64(&png(RED)),
        origin.url("/b.png"),
        format!("data:image/png;base64,{}", to_base64(&png(RED))),
        "one.png"
    ]);
    let answer = product.run("list", &directory(&list)).await;
    assert_eq!(
        colours(&answer),
        [RED, BLUE, RED, RED],
        "in the order of the list"
    );
    assert_eq!(answer["prompt"]["1"]["inputs"]["directory"], "list");

    let archive = zip(&[("1.png", &png(BLUE)), ("2.png", &png(RED))]);
    let answer = product
        .run("zip", &directory(&json!(to_base64(&archive))))
        .await;
    assert_eq!(colours(&answer), [BLUE, RED]);
    let answer = product.run("there", &directory(&json!("here"))).await;
    assert_eq!(
        (
            colours(&answer),
            &answer["prompt"]["1"]["inputs"]["directory"]
        ),
        (vec![RED], &json!("here"))
    );

    for (what, files) in [
        ("above", vec![("../../up.png", png(RED))]),
        ("absolute", vec![("/tmp/abs.png", png(RED))]),
    ] {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, content)| (*name, content.as_slice()))
            .collect();
        let (status, answer) = product
            .prompt(&json!({"prompt": directory(&json!(to_base64(&zip(&files))))}))
            .await;
        assert_eq!(
            (status, &answer["location"]),
            (400, &json!("prompt.1.inputs.directory")),
            "{what}: {answer}"
        );
    }
    let (status, answer) = product
        .prompt(&json!({"prompt": directory(&json!(["nowhere.png"]))}))
        .await;
    assert_eq!(
        (status, &answer["location"]),
        (400, &json!("prompt.1.inputs.directory.0")),
        "{answer}"
    );
    crate::support::product::until("only what was there is left", async || {
        (product.leftovers() == ["input/here", "input/here/a.png", "input/one.png"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn archives_have_limits() {
    let product = Product::start(&[("MAX_ARCHIVE_FILES", "2"), ("MAX_ARCHIVE_SIZE_MB", "1")]).await;
    let many = zip(&[
        ("1.png", &png(RED)),
        ("2.png", &png(RED)),
        ("3.png", &png(RED)),
    ]);
    let large = zip(&[("1.png", &vec![0; 2 << 20])]);
    for archive in [many, large] {
        let (status, answer) = product
            .prompt(&json!({"prompt": directory(&json!(to_base64(&archive)))}))
            .await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("invalid_request")),
            "{answer}"
        );
        assert!(
            answer["error"].as_str().unwrap().contains("MAX_ARCHIVE_"),
            "{answer}"
        );
    }
    product.until_clean().await;
}
