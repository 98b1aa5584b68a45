//! Pictures: as text, from elsewhere, and the first that fails.

use image::ImageFormat;
use serde_json::json;

use super::{BLUE, RED, colour};
use crate::support::graphs::{
    colour_of, encoded, from_base64, loaded, picture, png, to_base64, with,
};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn pictures_as_text() {
    let product = Product::start(&[]).await;
    let red = to_base64(&png(RED));
    let url_safe = red
        .replace('+', "-")
        .replace('/', "_")
        .trim_end_matches('=')
        .to_owned();
    let wrapped: String = red
        .as_bytes()
        .chunks(60)
        .map(|line| format!("{}\r\n", String::from_utf8_lossy(line)))
        .collect();
    for (id, text) in [
        ("standard", red.clone()),
        ("safe", url_safe),
        ("wrapped", wrapped),
        ("uri", format!("data:image/png;base64,{red}")),
    ] {
        assert_eq!(colour(&product, id, &text).await, RED, "{id}");
    }
    let jpeg = to_base64(&encoded(BLUE, ImageFormat::Jpeg));
    assert!(jpeg.starts_with("/9j/"));
    let found = colour(&product, "jpeg", &jpeg).await;
    assert!(found[2] > 240 && found[0] < 20, "{found:?}");
    let webp = to_base64(&encoded(RED, ImageFormat::WebP));
    let answer = product.run("webp", &loaded(&webp)).await;
    assert!(
        answer["prompt"]["1"]["inputs"]["image"]
            .as_str()
            .unwrap()
            .ends_with(".webp"),
        "{}",
        answer["prompt"]
    );
    assert!(
        answer["prompt"]["1"]["inputs"]["image"]
            .as_str()
            .unwrap()
            .starts_with("webp/"),
        "{}",
        answer["prompt"]
    );
    product.until_clean().await;

    for (what, text) in [
        ("nothing known", to_base64(&[7_u8; 400])),
        ("broken URI", "data:image/png;base64,@@@".to_owned()),
        ("no comma", "data:image/png;base64".to_owned()),
    ] {
        let (status, answer) = product.prompt(&json!({"prompt": loaded(&text)})).await;
        assert_eq!(
            (status, &answer["code"], &answer["location"]),
            (
                400,
                &json!("invalid_request"),
                &json!("prompt.1.inputs.image")
            ),
            "{what}: {answer}"
        );
        assert!(
            answer["error"].as_str().unwrap().len() < 600,
            "{what}: the sentence does not repeat the whole input"
        );
    }
    // D03: an empty text is ComfyUI's to judge.
    let (_, answer) = product.prompt(&json!({"prompt": loaded("")})).await;
    assert_eq!(answer["code"], "invalid_prompt", "{answer}");
    product.until_clean().await;
}

/// D03, D04, U1: an `image` that ComfyUI does not describe as an upload.
#[tokio::test]
async fn plain_image_inputs() {
    let origin = Origin::start(|_, _| Reply::ok(png(BLUE)).with("Content-Type", "image/png")).await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let opened = |image: &str| {
        json!({"1": {"class_type": "SimOpenImage", "inputs": {"image": image}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "x"}
        }})
    };
    let inside = product.path("input").display().to_string();
    for (id, image, colour) in [
        ("url", origin.url("/a.png"), BLUE),
        ("base64", to_base64(&png(RED)), RED),
    ] {
        let answer = product.run(id, &opened(&image)).await;
        assert_eq!(colour_of(&answer["images"][0]), colour);
        let path = answer["prompt"]["1"]["inputs"]["image"].as_str().unwrap();
        assert!(path.starts_with(&format!("{inside}/{id}/")), "{path}");
    }
    // An input that no class lists, and a widget: any text is theirs, paths are checked.
    let shown = |class: &str, image: &str| {
        with(
            picture("p"),
            json!({"1b": {"class_type": class, "inputs": {"image": image}},
                   "8": {"class_type": "PreviewAny", "inputs": {"source": ["1b", 0]}}}),
        )
    };
    for text in [
        "a cat",
        "",
        "photo.png",
        "cats .. and dogs",
        "data of a kind",
    ] {
        let answer = product.run("text", &shown("Load3D", text)).await;
        assert_eq!(answer["prompt"]["1b"]["inputs"]["image"], text);
        let graph = with(
            picture("p"),
            json!({"1b": {"class_type": "SimShowInputs", "inputs": {"image": text}}}),
        );
        let answer = product.run("unlisted", &graph).await;
        assert_eq!(answer["prompt"]["1b"]["inputs"]["image"], text);
    }
    for path in ["/etc/passwd", "../secret.png", "./x/../../y", "a/../../b"] {
        for class in ["Load3D", "SimShowInputs", "SimOpenImage"] {
            let (status, answer) = product.prompt(&json!({"prompt": shown(class, path)})).await;
            assert_eq!(
                (status, answer["location"].as_str()),
                (400, Some("prompt.1b.inputs.image")),
                "{class} {path}: {answer}"
            );
        }
    }
    product.until_clean().await;
}

#[tokio::test]
async fn urls_of_pictures_go_through_the_cache() {
    let body = png(RED);
    let origin = Origin::start(move |request, _| match request.target.as_str() {
        "/missing.png" => Reply::status(404),
        "/private.png" if request.header("authorization") != Some("Bearer sesame") => {
            Reply::status(401)
        }
        _ => Reply::ok(body.clone())
            .with("Content-Type", "image/png")
            .with("ETag", "\"1\""),
    })
    .await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let graph = |url: &str| {
        with(
            loaded(url),
            json!({
                "2": {"class_type": "LoadImage", "inputs": {"image": url}},
                "8": {
                    "class_type": "SaveImage",
                    "inputs": {"images": ["2", 0], "filename_prefix": "second"}
                }
            }),
        )
    };
    let answer = product
        .run("u1", &graph(&origin.url("/photo.png?sig=hidden")))
        .await;
    assert_eq!(
        (
            colour_of(&answer["images"][0]),
            colour_of(&answer["images"][1])
        ),
        (RED, RED)
    );
    let downloads = answer["stats"]["downloads"].as_array().unwrap();
    assert_eq!(downloads.len(), 2);
    assert_eq!(
        downloads[0]["size"].as_u64().unwrap(),
        png(RED).len() as u64
    );
    assert!(
        !answer["stats"].to_string().contains("hidden"),
        "{}",
        answer["stats"]
    );
    assert_eq!(origin.count("GET"), 1, "one download for both nodes");
    let again = product
        .run("u2", &loaded(&origin.url("/photo.png?sig=hidden")))
        .await;
    assert_eq!(again["stats"]["downloads"][0]["cached"], true);
    product.until_clean().await;

    let (status, answer) = product
        .prompt(&json!({"prompt": loaded(&origin.url("/missing.png"))}))
        .await;
    assert_eq!(
        (status, &answer["code"], &answer["location"]),
        (
            400,
            &json!("download_failed"),
            &json!("prompt.1.inputs.image")
        ),
        "{answer}"
    );
    let private = origin.url("/private.png");
    let (status, answer) = product.prompt(&json!({"prompt": loaded(&private)})).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("download_failed")),
        "{answer}"
    );
    let credentials = json!([{
        "url_pattern": format!("{}/**", origin.url("")),
        "auth": {"type": "bearer", "token": "sesame"}
    }]);
    let (status, answer) = product
        .prompt(&json!({"prompt": loaded(&private), "credentials": credentials}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.to_string().contains("sesame") && !product.log.text().contains("sesame"));
    product.until_clean().await;
}

#[tokio::test]
async fn the_first_failure_ends_the_rest_and_leaves_nothing() {
    let origin = Origin::start(|request, _| {
        if request.target == "/bad.png" {
            Reply::status(404)
        } else {
            Reply {
                stall_after: Some(5),
                ..Reply::ok(vec![1; 1000])
            }
        }
    })
    .await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let graph = with(
        loaded(&origin.url("/stalls.png")),
        json!({
            "2": {"class_type": "LoadImage", "inputs": {"image": origin.url("/bad.png")}},
            "3": {"class_type": "LoadImage", "inputs": {"image": to_base64(&png(RED))}}
        }),
    );
    let (status, answer) = product
        .prompt(&json!({"id": "half", "prompt": graph}))
        .await;
    assert_eq!(
        (status, &answer["location"]),
        (400, &json!("prompt.2.inputs.image")),
        "{answer}"
    );
    product.until_clean().await;
    crate::support::product::until("the stalled download is given up", async || {
        (origin.open_now() == 0).then_some(())
    })
    .await;
    assert_eq!(
        from_base64(&product.run("next", &picture("p")).await["images"][0])[1..4],
        *b"PNG"
    );
}
