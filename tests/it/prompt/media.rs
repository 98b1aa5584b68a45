//! Input media in every form the contract names, and those that it refuses.

use std::io::Write as _;

use image::ImageFormat;
use serde_json::{Value, json};

use crate::support::graphs::{
    colour_of, encoded, from_base64, loaded, picture, png, to_base64, with,
};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

async fn colour(product: &Product, id: &str, image: &str) -> [u8; 3] {
    let answer = product.run(id, &loaded(image)).await;
    colour_of(&answer["images"][0])
}

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
async fn sound_and_video() {
    let product = Product::start(&[]).await;
    let made = product
        .run(
            "v",
            &json!({"1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 32, "height": 32, "batch_size": 2, "color": 255}
            }, "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8}},
                "3": {
                    "class_type": "SaveVideo",
                    "inputs": {
                        "video": ["2", 0],
                        "filename_prefix": "video/x",
                        "format": "auto",
                        "codec": "auto"
                    }
                }}),
        )
        .await;
    assert_eq!(made["filenames"], json!(["v_x_00001_.mp4"]));
    let video = made["images"][0].as_str().unwrap();
    for (class, input, text) in [
        ("LoadVideo", "file", video.to_owned()),
        (
            "VHS_LoadVideo",
            "video",
            format!("data:video/mp4;base64,{video}"),
        ),
    ] {
        let mut graph = with(
            picture("p"),
            json!({
                "4": {"class_type": class, "inputs": {}},
                "6": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}}
            }),
        );
        graph["4"]["inputs"][input] = text.into();
        if class == "VHS_LoadVideo" {
            graph["4"]["inputs"]["frame_load_cap"] = 0.into();
        }
        let answer = product.run(class, &graph).await;
        let name = answer["prompt"]["4"]["inputs"][input].as_str().unwrap();
        assert!(
            name.starts_with(&format!("{class}/")) && name.ends_with(".mp4"),
            "{name}"
        );
    }
    let mut wav = b"RIFF\x24\x01\0\0WAVEfmt \
                    \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\0\x01\0\0"
        .to_vec();
    wav.extend([0; 256]);
    let graph = with(
        picture("p"),
        json!({
            "4": {"class_type": "LoadAudio", "inputs": {"audio": to_base64(&wav)}},
            "6": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}}
        }),
    );
    let answer = product.run("sound", &graph).await;
    assert!(
        answer["prompt"]["4"]["inputs"]["audio"]
            .as_str()
            .unwrap()
            .ends_with(".wav"),
        "{}",
        answer["prompt"]["4"]
    );
    product.until_clean().await;
}

fn directory(value: &Value) -> Value {
    json!({"1": {"class_type": "VHS_LoadImages", "inputs": {"directory": value}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "all"}
    }})
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

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
