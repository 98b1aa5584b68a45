//! The product over a real ComfyUI, when `COMFYUI_TEST_HOME` names one. Its Python is
//! `COMFYUI_TEST_PYTHON`, else `<home>/../comfy-venv/bin/python` if that is there, else `python3`.
//! One test, because each start takes long.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{
    colour_of, coloured, from_base64, loaded, picture, png, to_base64, with,
};
use crate::support::product::{Product, Stage, until};

fn python(home: &Path) -> String {
    let beside = home.join("../comfy-venv/bin/python");
    std::env::var("COMFYUI_TEST_PYTHON").unwrap_or_else(|_| {
        if beside.exists() {
            beside.display().to_string()
        } else {
            "python3".to_owned()
        }
    })
}

async fn real() -> Option<Product> {
    let Some(home) = std::env::var_os("COMFYUI_TEST_HOME").map(PathBuf::from) else {
        println!("skipped: COMFYUI_TEST_HOME names no ComfyUI");
        return None;
    };
    // A real one insists on this folder.
    let stage = Stage::new().file("custom_nodes/.keep", "");
    let command = format!(
        "'{}' '{}/main.py' --cpu --port {} --base-directory '{}' --database-url sqlite:///:memory:",
        python(&home),
        home.display(),
        stage.comfy_port(),
        stage.path("").display()
    );
    // Importing torch takes its time.
    let product = stage
        .command(&command)
        .env("STARTUP_CHECK_INTERVAL_S", "1")
        .env("STARTUP_CHECK_MAX_TRIES", "300")
        .launch()
        .await;
    let deadline = Instant::now() + Duration::from_secs(300);
    while product.get("/ready").await.0 != 200 {
        assert!(
            Instant::now() < deadline,
            "not ready in time:\n{}",
            product.log.text()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "ComfyUI {}",
        product.comfy("/system_stats").await["system"]["comfyui_version"]
    );
    Some(product)
}

#[tokio::test]
async fn the_way_of_a_prompt_through_a_real_comfyui() {
    let Some(product) = real().await else { return };
    saves(&product).await;
    loads(&product).await;
    refuses(&product).await;
    cancels(&product).await;
    clean(&product).await;
}

/// Nothing is left but the folder that ComfyUI makes for itself.
async fn clean(product: &Product) {
    until("nothing is left behind", async || {
        let left: Vec<String> = product
            .leftovers()
            .into_iter()
            .filter(|name| name != "input/3d")
            .collect();
        (left.is_empty() && product.comfy("/history").await == json!({})).then_some(())
    })
    .await;
}

async fn saves(product: &Product) {
    let answer = product.run("one", &coloured("sub/shot", 0x00FF_0000)).await;
    assert_eq!(
        (&answer["filenames"], colour_of(&answer["images"][0])),
        (&json!(["one_shot_00001_.png"]), [255, 0, 0])
    );
    assert_eq!(answer["outputs"][0]["node_id"], "9");
    clean(product).await;
    // Cached in ComfyUI, yet files again.
    let again = product.run("one", &coloured("sub/shot", 0x00FF_0000)).await;
    assert_eq!(
        (&again["filenames"], colour_of(&again["images"][0])),
        (&json!(["one_shot_00001_.png"]), [255, 0, 0])
    );
    assert_eq!(
        again["stats"]["comfy_execution"]["nodes"]["1"]["cached"],
        true
    );

    let batch = json!({"1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 4, "color": 255}
    },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "b"}},
        "3": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {
                "images": ["1", 0],
                "filename_prefix": "a",
                "fps": 6.0,
                "lossless": true,
                "quality": 80,
                "method": "default"
            }
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": "hello"}}});
    let answer = product.run("two", &batch).await;
    let names: Vec<&str> = answer["filenames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in [
        "two_b_00001_.png",
        "two_b_00002_.png",
        "two_b_00003_.png",
        "two_b_00004_.png",
        "two_a_00001_.webp",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(answer["texts"], json!({"4": ["hello"]}));
}

async fn loads(product: &Product) {
    let mut graph = loaded(&to_base64(&png([0, 0, 255])));
    graph["2"] = json!({
        "class_type": "ImageScale",
        "inputs": {
            "image": ["1", 0],
            "upscale_method": "bilinear",
            "width": 48,
            "height": 24,
            "crop": "disabled"
        }
    });
    graph["9"]["inputs"]["images"] = json!(["2", 0]);
    let answer = product.run("scaled", &graph).await;
    let picture = image::load_from_memory(&from_base64(&answer["images"][0])).unwrap();
    assert_eq!(
        (
            picture.width(),
            picture.height(),
            colour_of(&answer["images"][0])
        ),
        (48, 24, [0, 0, 255])
    );
    let (_, models) = product.get("/models").await;
    assert!(
        models["checkpoints"].is_array() && models["loras"].is_array(),
        "{models}"
    );
}

async fn refuses(product: &Product) {
    let code = |(status, answer): &(u16, Value)| {
        (
            *status,
            answer["code"].as_str().unwrap_or_default().to_owned(),
            answer["location"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let missing = json!({"4": {"class_type": "CheckpointLoaderSimple",
    "inputs": {"ckpt_name": "none.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 2]}}, "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": "x"}
    }});
    let answer = product.prompt(&json!({"prompt": missing})).await;
    println!("missing model: {}", answer.1["error"]);
    assert_eq!(
        code(&answer),
        (
            400,
            "invalid_prompt".into(),
            "prompt.4.inputs.ckpt_name".into()
        ),
        "{}",
        answer.1
    );
    let answer = product
        .prompt(&json!({
            "prompt": with(picture("x"), json!({"7": {"class_type": "NoSuchNode", "inputs": {}}}))
        }))
        .await;
    println!("missing class: {}", answer.1["error"]);
    assert_eq!(
        code(&answer),
        (400, "invalid_prompt".into(), "prompt.7.class_type".into()),
        "{}",
        answer.1
    );
    // A picture in name only: validation lets it pass, the node does not.
    std::fs::write(
        product.path("input/broken.png"),
        b"\x89PNG\r\n\x1a\nnothing more",
    )
    .unwrap();
    let answer = product
        .prompt(&json!({"prompt": loaded("broken.png")}))
        .await;
    println!("run-time error: {}", answer.1["error"]);
    assert_eq!(
        code(&answer),
        (500, "execution_error".into(), String::new()),
        "{}",
        answer.1
    );
    assert_eq!(
        (
            &answer.1["details"]["node_id"],
            &answer.1["details"]["node_type"]
        ),
        (&json!("1"), &json!("LoadImage"))
    );
    std::fs::remove_file(product.path("input/broken.png")).unwrap();
}

async fn cancels(product: &Product) {
    // A long chain of scales: it can be interrupted between two of them.
    let mut graph = picture("long");
    graph["1"]["inputs"] = json!({"width": 2048, "height": 2048, "batch_size": 1, "color": 7});
    for number in 0..60 {
        let before = if number == 0 {
            "1".to_owned()
        } else {
            format!("s{}", number - 1)
        };
        graph[format!("s{number}")] = json!({
            "class_type": "ImageScale",
            "inputs": {
                "image": [before, 0],
                "upscale_method": "lanczos",
                "width": 2048 - number,
                "height": 2048,
                "crop": "disabled"
            }
        });
    }
    graph["9"]["inputs"]["images"] = json!(["s59", 0]);
    let running = product.prompt_later(json!({"id": "running", "prompt": graph}));
    until("it runs", async || {
        (product.get("/prompt/running").await.1["status"] == "running").then_some(())
    })
    .await;
    let pending = product.prompt_later(json!({"id": "pending", "prompt": picture("p")}));
    product.until_prompt("pending", "pending").await;
    let before = Instant::now();
    assert_eq!(product.delete("/prompt/pending").await.0, 200);
    assert_eq!(pending.await.unwrap().0, 409);
    println!("cancel of a pending prompt: {:?}", before.elapsed());
    let before = Instant::now();
    assert_eq!(
        product
            .post("/interrupt", &json!({"id": "running"}))
            .await
            .0,
        200
    );
    let (status, answer) = running.await.unwrap();
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("execution_interrupted")),
        "{answer}"
    );
    println!("cancel of a running prompt: {:?}", before.elapsed());
    product.run("after", &picture("p")).await;
}
