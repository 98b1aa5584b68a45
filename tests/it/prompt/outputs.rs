//! What comes out: names, order, kinds, texts, warnings, statistics; and that nothing stays behind.

use serde_json::{Value, json};

use crate::support::graphs::{colour_of, coloured, from_base64, picture, with};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn the_answer_holds_what_was_asked_and_what_was_made() {
    let product = Product::start(&[]).await;
    let graph = with(
        coloured("shot", 0x0012_3456),
        json!({
            "7": {
                "class_type": "PreviewAny",
                "inputs": {"source": "hello there"},
                "_meta": {"title": "T"}
            }
        }),
    );
    let body = json!({"id": "Job.1_a-B", "prompt": graph, "extra_data": {
        "api_key_comfy_org": "topsecret-1"
    },
        "credentials": [{
            "url_pattern": "https://x.example/**",
            "auth": {"type": "bearer", "token": "topsecret-2"}
        }], "compress_outputs": false});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["id"], "Job.1_a-B");
    assert_eq!(answer["compress_outputs"], false);
    assert_eq!(answer["filenames"], json!(["Job.1_a-B_shot_00001_.png"]));
    assert_eq!(
        answer["prompt"]["9"]["inputs"]["filename_prefix"],
        "Job.1_a-B_shot"
    );
    assert_eq!(answer["prompt"]["7"]["_meta"]["title"], "T");
    assert_eq!(colour_of(&answer["images"][0]), [0x12, 0x34, 0x56]);
    assert_eq!(answer["texts"], json!({"7": ["hello there"]}));
    assert_eq!(answer["warnings"], json!([]));
    let size = from_base64(&answer["images"][0]).len();
    let described = json!([{
        "node_id": "9",
        "output": "images",
        "filename": "Job.1_a-B_shot_00001_.png",
        "content_type": "image/png",
        "size": size
    }]);
    assert_eq!(answer["outputs"], described);
    assert!(
        answer.get("extra_data").is_none()
            && answer.get("credentials").is_none()
            && answer.get("status").is_none()
    );
    assert!(!answer.to_string().contains("topsecret") && !product.log.text().contains("topsecret"));

    let (status, answer) = product.prompt(&json!({"prompt": picture("x")})).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["id"].as_str().unwrap();
    assert!(
        uuid::Uuid::parse_str(id).is_ok() && answer["filenames"][0] == format!("{id}_x_00001_.png"),
        "{answer}"
    );
    product.until_clean().await;
    assert_eq!(
        (
            product.log.count("prompt queued"),
            product.log.count("prompt succeeded")
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn statistics_have_the_old_fields_and_the_new() {
    let product = Product::start(&[]).await;
    let answer = product.run("one", &picture("stats")).await;
    let stats = &answer["stats"];
    let number = |pointer: &str| {
        stats
            .pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("{pointer} in {stats}"))
    };
    let (start, end) = (
        number("/comfy_execution/start"),
        number("/comfy_execution/end"),
    );
    assert!(
        start > 1_700_000_000_000
            && end >= start
            && number("/comfy_execution/duration") == end - start
    );
    number("/comfy_execution/queued");
    let nodes = stats["comfy_execution"]["nodes"].as_object().unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["1", "9"]);
    for (node, class) in [("1", "EmptyImage"), ("9", "SaveImage")] {
        assert_eq!(
            (&nodes[node]["class_type"], &nodes[node]["cached"]),
            (&json!(class), &json!(false))
        );
        assert_eq!(
            nodes[node]["duration"].as_u64().unwrap(),
            nodes[node]["end"].as_u64().unwrap() - nodes[node]["start"].as_u64().unwrap()
        );
    }
    for stage in [
        "preprocess_time",
        "comfy_round_trip_time",
        "postprocess_time",
        "upload_time",
        "total_time",
    ] {
        assert!(
            number(&format!("/{stage}")) <= number("/total_time"),
            "{stage}"
        );
    }
    assert_eq!(stats["downloads"], json!([]));
    let again = product.run("two", &picture("stats")).await;
    assert_eq!(
        again["stats"]["comfy_execution"]["nodes"]["1"]["cached"], true,
        "{}",
        again["stats"]
    );
}

#[tokio::test]
async fn files_in_folders_batches_and_other_kinds_are_found_in_order() {
    let product = Product::start(&[]).await;
    let graph = json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 3, "color": 255}
        },
        "20": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "deep/er/shot"}
        },
        "3": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {
                "images": ["1", 0],
                "filename_prefix": "anim",
                "fps": 6,
                "lossless": true,
                "quality": 80,
                "method": "default"
            }
        },
        "4": {"class_type": "SimTone", "inputs": {}},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "7": {
            "class_type": "SimBlob",
            "inputs": {"bytes": 5000, "filename_prefix": "blob", "extension": "bin"}
        },
        "8": {"class_type": "SimSilentSave", "inputs": {"filename_prefix": "checkpoints/model"}},
    });
    let mut graph = graph;
    let tone = product.comfy("/object_info/SimTone").await;
    for (input, spec) in tone["SimTone"]["input"]["required"].as_object().unwrap() {
        graph["4"]["inputs"][input] = spec[1]["default"].clone();
    }
    graph["5"] = json!({
        "class_type": "SaveAudio",
        "inputs": {"audio": ["4", 0], "filename_prefix": "audio/tone"}
    });
    let answer = product.run("k", &graph).await;
    let names = |key: &str| -> Vec<String> {
        answer[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let mut found = names("filenames");
    for expected in [
        "k_shot_00001_.png",
        "k_shot_00002_.png",
        "k_shot_00003_.png",
        "k_anim_00001_.webp",
        "k_tone_00001_.flac",
        "k_blob_00001_.bin",
        "k_model_00001_.safetensors",
    ] {
        assert!(
            found.iter().any(|name| name == expected),
            "{expected} in {found:?}"
        );
    }
    found.retain(|name| name.contains("shot"));
    assert_eq!(
        found,
        [
            "k_shot_00001_.png",
            "k_shot_00002_.png",
            "k_shot_00003_.png"
        ]
    );
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(
        (outputs.len(), answer["images"].as_array().unwrap().len()),
        (7, 7)
    );
    let about = |name: &str| {
        outputs
            .iter()
            .find(|output| output["filename"] == name)
            .unwrap()
    };
    assert_eq!(about("k_anim_00001_.webp")["content_type"], "image/webp");
    assert_eq!(about("k_blob_00001_.bin")["size"], 5000);
    assert_eq!(
        (
            &about("k_tone_00001_.flac")["output"],
            &about("k_tone_00001_.flac")["node_id"]
        ),
        (&json!("audio"), &json!("5"))
    );
    for (image, output) in answer["images"].as_array().unwrap().iter().zip(outputs) {
        assert_eq!(
            from_base64(image).len() as u64,
            output["size"].as_u64().unwrap(),
            "{output}"
        );
    }
    product.until_clean().await;
}

#[tokio::test]
async fn prefixes_can_be_replaced_and_silent_saves_count() {
    let product = Product::start(&[("PREPEND_FILENAMES", "false")]).await;
    let answer = product.run("plain", &picture("some/where")).await;
    assert_eq!(answer["filenames"], json!(["plain_00001_.png"]));
    assert_eq!(answer["prompt"]["9"]["inputs"]["filename_prefix"], "plain");
    // Only a node that reports nothing at all has saved something.
    let silent = json!({
        "8": {"class_type": "SimSilentSave", "inputs": {"filename_prefix": "checkpoints/x"}}
    });
    let answer = product.run("silent", &silent).await;
    assert_eq!(answer["filenames"], json!(["silent_00001_.safetensors"]));
    product.until_clean().await;
}

#[tokio::test]
async fn the_same_id_and_graph_give_files_again_with_both_versions() {
    for version in ["0.3.64", "current"] {
        let product = Stage::new()
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        let silent = json!({
            "8": {"class_type": "SimSilentSave", "inputs": {"filename_prefix": "checkpoints/x"}}
        });
        // A prefix that comes from another node is only known when it runs.
        let linked = json!({"5": {"class_type": "PrimitiveString", "inputs": {"value": "linked"}},
        "8": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": ["5", 0]}
        }});
        for graph in [
            with(picture("again"), silent.clone()),
            silent,
            with(picture("beside"), linked),
        ] {
            let first = product.run("same", &graph).await;
            product.until_clean().await;
            for _ in 0..2 {
                let again = product.run("same", &graph).await;
                assert_eq!(
                    (
                        &again["filenames"],
                        &again["images"].as_array().unwrap().len()
                    ),
                    (
                        &first["filenames"],
                        &first["images"].as_array().unwrap().len()
                    )
                );
                assert_eq!(again["prompt"], first["prompt"], "the trick is not shown");
            }
        }
        product.until_clean().await;
    }
}

#[tokio::test]
async fn a_new_process_gives_files_again_although_comfyui_has_them_cached() {
    let stage = Stage::new().attached();
    let simulator = stage.simulator().await;
    let mut product = stage.start().await;
    let first = product.run("same", &picture("p")).await;
    assert_eq!(product.stop().await, Some(0));
    // Another process that knows nothing of the first one, at the same ComfyUI.
    let second = Stage::new()
        .env("COMFY_HOME", product.path("").display())
        .env("COMFYUI_PORT_HOST", simulator.port())
        .attached()
        .start()
        .await;
    let again = second.run("same", &picture("p")).await;
    assert_eq!(again["filenames"], first["filenames"]);
    assert_eq!(again["warnings"], json!([]));
}

#[tokio::test]
async fn an_asynchronous_request_is_answered_when_comfyui_has_the_graph() {
    let product = Product::start(&[
        ("ALLOW_PRIVATE_NETWORKS", "true"),
        ("WEBHOOK_SECRET", "whsec_c2VjcmV0"),
    ])
    .await;
    let hook =
        crate::support::origin::Origin::start(|_, _| crate::support::origin::Reply::ok("")).await;
    let (status, answer) = product
        .prompt(&json!({"id": "hooked", "prompt": picture("h"), "webhook_v2": hook.url("/hook")}))
        .await;
    assert_eq!(
        (status, &answer["status"], &answer["id"]),
        (202, &json!("ok"), &json!("hooked")),
        "{answer}"
    );
    assert_eq!(
        answer["prompt"]["9"]["inputs"]["filename_prefix"],
        "hooked_h"
    );
    assert_eq!(answer["webhook_v2"], hook.url("/hook"));
    assert!(answer.get("images").is_none());
    hook.wait_for(1).await;
    let told: Value = serde_json::from_slice(&hook.requests()[0].body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"], &told["filenames"]),
        (
            &json!("prompt.complete"),
            &json!("hooked"),
            &json!(["hooked_h_00001_.png"])
        )
    );

    // A bad graph is an answer, not a webhook; a node that fails is a webhook.
    let (status, answer) = product
        .prompt(&json!({
            "prompt": with(
                picture("h"),
                json!({"7": {"class_type": "NoSuchClass", "inputs": {}}})
            ),
            "webhook_v2": hook.url("/hook")
        }))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("invalid_prompt")),
        "{answer}"
    );
    let failing = with(
        picture("h"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "out of luck"}}}),
    );
    let (status, _) = product
        .prompt(&json!({"id": "unlucky", "prompt": failing, "webhook_v2": hook.url("/hook")}))
        .await;
    assert_eq!(status, 202);
    hook.wait_for(2).await;
    let told: Value = serde_json::from_slice(&hook.requests()[1].body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"], &told["code"]),
        (
            &json!("prompt.failed"),
            &json!("unlucky"),
            &json!("execution_error")
        )
    );
    assert!(told["error"].as_str().unwrap().contains("out of luck") && told["prompt"].is_object());
    product.until_clean().await;
}
