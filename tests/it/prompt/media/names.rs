//! Names, paths and folders that are left as they are.

use serde_json::{Value, json};

use super::{BLUE, RED, colour, zip};
use crate::support::graphs::{colour_of, loaded, png, to_base64};
use crate::support::origin::{Origin, Reply};
use crate::support::product::Stage;

/// F32.
#[tokio::test]
async fn folders_of_other_packs() {
    let archive = zip(&[("1.png", &png(BLUE)), ("2.png", &png(RED))]);
    let packed = archive.clone();
    let origin = Origin::start(move |request, _| match request.target.as_str() {
        "/all.zip" | "/download/7" => Reply::ok(packed.clone()),
        "/page" => Reply::ok("<html>").with("Content-Type", "text/html"),
        _ => Reply::ok(png(BLUE)).with("Content-Type", "image/png"),
    })
    .await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .file("input/here/a.png", png(RED))
        .start()
        .await;
    let graph = |class: &str, input: &str, value: &Value| {
        json!({"1": {"class_type": class, "inputs": {input: value}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "x"}
        }})
    };
    let red = to_base64(&png(RED));
    let here = product.path("input/here").display().to_string();
    let cases: [(Value, &[[u8; 3]]); 7] = [
        (json!(origin.url("/all.zip")), &[BLUE, RED]),
        (json!(origin.url("/download/7")), &[BLUE, RED]),
        (json!(to_base64(&archive)), &[BLUE, RED]),
        (json!([origin.url("/a.png"), red.clone()]), &[BLUE, RED]),
        (
            json!({"__value__": [red.clone(), origin.url("/a.png")]}),
            &[RED, BLUE],
        ),
        (json!(origin.url("/a.png?x=1")), &[BLUE]),
        (json!(here), &[RED]),
    ];
    for (class, input) in [
        ("LoadImagesFromFolderKJ", "folder"),
        ("easy loadImagesForLoop", "directory"),
    ] {
        for (number, (value, colours)) in cases.iter().enumerate() {
            let answer = product.run("f", &graph(class, input, value)).await;
            let images = answer["images"].as_array().unwrap();
            let found: Vec<[u8; 3]> = images.iter().map(colour_of).collect();
            assert_eq!(found, *colours, "{class} {number}");
            let path = answer["prompt"]["1"]["inputs"][input].as_str().unwrap();
            assert!(
                path.starts_with(&product.path("input").display().to_string()),
                "{path}"
            );
        }
    }
    // What looks like neither stays as it is, and the node says what it thinks of it.
    for text in [
        "X://insert/path/here",
        "summer",
        "",
        &origin.url("/page.html"),
        &origin.url("/page"),
    ] {
        let value = json!(text);
        let (status, answer) = product
            .prompt(&json!({"prompt": graph("LoadImagesFromFolderKJ", "folder", &value)}))
            .await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (500, Some("execution_error")),
            "{answer}"
        );
        assert!(answer["error"].as_str().unwrap().contains(text), "{answer}");
    }
    for path in ["/etc", "../x"] {
        let (status, answer) = product
            .prompt(&json!({"prompt": graph("easy loadImagesForLoop", "directory", &json!(path))}))
            .await;
        assert_eq!(
            (status, answer["location"].as_str()),
            (400, Some("prompt.1.inputs.directory")),
            "{answer}"
        );
    }
    crate::support::product::until("only what was there is left", async || {
        (product.leftovers() == ["input/here", "input/here/a.png"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn names_and_paths_that_are_there_already() {
    let allowed = tempfile::tempdir().unwrap();
    std::fs::write(allowed.path().join("a.png"), png(RED)).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.png"), png(RED)).unwrap();
    let stage = Stage::new().env("ALLOWED_INPUT_PATHS", allowed.path().display());
    let stage = stage
        .file("input/plain.png", png(RED))
        .file("input/sub/deep.png", png(BLUE))
        .file("output/made.png", png(BLUE))
        .file("temp2/t.png", png(RED));
    let product = stage.start().await;
    std::os::unix::fs::symlink(
        outside.path().join("secret.png"),
        product.path("input/link.png"),
    )
    .unwrap();
    assert_eq!(colour(&product, "n1", "plain.png").await, RED);
    assert_eq!(colour(&product, "n2", "sub/deep.png").await, BLUE);
    assert_eq!(colour(&product, "n3", "plain.png [input]").await, RED);
    assert_eq!(colour(&product, "n4", "made.png [output]").await, BLUE);
    assert_eq!(
        product.run("n5", &loaded("plain.png")).await["prompt"]["1"]["inputs"]["image"],
        "plain.png"
    );

    let refused = |image: String| {
        let product = &product;
        async move {
            let (status, answer) = product.prompt(&json!({"prompt": loaded(&image)})).await;
            (
                status,
                answer["code"].as_str().unwrap_or_default().to_owned(),
            )
        }
    };
    let home = product.path("").display().to_string();
    for (what, image) in [
        (
            "outside",
            outside.path().join("secret.png").display().to_string(),
        ),
        ("etc", "/etc/passwd".to_owned()),
        ("above", "../secret.png".to_owned()),
        ("above in the middle", format!("{home}/input/../../x.png")),
        ("a link that leads out", "link.png".to_owned()),
        ("missing", "missing.png".to_owned()),
        ("wrong suffix", "plain.png [elsewhere]".to_owned()),
    ] {
        assert_eq!(
            refused(image).await,
            (400, "invalid_request".to_owned()),
            "{what}"
        );
    }
    // Allowed by us; whether ComfyUI's node takes paths is its own business.
    for path in [
        format!("{home}/input/plain.png"),
        "./input/plain.png".to_owned(),
        allowed.path().join("a.png").display().to_string(),
    ] {
        let (_, answer) = product.prompt(&json!({"prompt": loaded(&path)})).await;
        assert_ne!(answer["code"], "invalid_request", "{path}: {answer}");
    }
    let kept = product.leftovers();
    assert_eq!(
        kept,
        [
            "input/link.png",
            "input/plain.png",
            "input/sub",
            "input/sub/deep.png",
            "output/made.png"
        ],
        "what was there stays"
    );
}

#[tokio::test]
async fn an_input_named_like_the_id_is_not_touched() {
    let product = Stage::new()
        .file("input/mine/own.png", png(BLUE))
        .start()
        .await;
    assert_eq!(colour(&product, "mine", &to_base64(&png(RED))).await, RED);
    crate::support::product::until("only the user's own file is left", async || {
        (product.leftovers() == ["input/mine", "input/mine/own.png"]).then_some(())
    })
    .await;
}
