//! Graphs that succeed, are cached, or fail in a branch.

use crate::simulator::*;

#[tokio::test]
async fn a_b_c_simple_then_cached_then_partly_cached() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c1").await;
    let hello = ws.json().await;
    assert_eq!(
        (&hello["data"]["sid"], short(&hello)),
        (&json!("c1"), "status 0".to_owned())
    );
    let id = stand.submit(&simple("t1"), "c1").await;
    let messages = ws.run(&id).await;
    let expected = [
        "status 1",
        "status 1",
        "execution_start",
        "cached []",
        "state 1 running",
        "executing 1",
        "state 1 finished",
        "state 1 finished, 2 running",
        "executing 2",
        "executed 2",
        "state 1 finished, 2 finished",
        "execution_success",
        "status 0",
        "executing null",
    ];
    assert_eq!(shorts(&messages), expected);
    assert_eq!(
        messages[9]["data"]["output"],
        json!({"images": [{"filename": "t1_00001_.png", "subfolder": "", "type": "output"}]})
    );
    let entry = stand.outcome(&id).await;
    assert_eq!(entry["prompt"][4], json!(["2"]));
    assert_eq!(entry["status"]["status_str"], "success");
    assert_eq!(entry["status"]["messages"].as_array().unwrap().len(), 3);
    assert_eq!(
        entry["meta"]["2"],
        json!({"node_id": "2", "display_node": "2", "parent_node": null, "real_node_id": "2"})
    );

    std::fs::remove_file(stand.path("output/t1_00001_.png")).unwrap();
    let id = stand.submit(&simple("t1"), "c1").await;
    let messages = ws.run(&id).await;
    assert_eq!(
        shorts(&messages),
        [
            "status 1",
            "status 1",
            "execution_start",
            "cached [\"1\",\"2\"]",
            "executed 2",
            "state 2 finished",
            "execution_success",
            "status 0",
            "executing null"
        ]
    );
    assert_eq!(
        messages[4]["data"]["output"]["images"][0]["filename"],
        "t1_00001_.png"
    );
    assert!(
        !stand.path("output/t1_00001_.png").exists(),
        "a cached save writes nothing"
    );

    let id = stand
        .submit(&simple("jobs/abc/%width%x%height%_%date:yyyy%"), "c1")
        .await;
    let messages = ws.run(&id).await;
    assert_eq!(
        without_states(&messages)[3..6],
        ["cached [\"1\"]", "executing 2", "executed 2"]
    );
    assert_eq!(
        stand.outcome(&id).await["outputs"]["2"]["images"],
        json!([{
            "filename": "64x64_%date:yyyy%_00001_.png",
            "subfolder": "jobs/abc",
            "type": "output"
        }])
    );
}

#[tokio::test]
async fn d_load_change_save_and_preview() {
    let stand = Stand::start(OLD).await;
    let id = stand.submit(&simple("made"), "nobody").await;
    stand.outcome(&id).await;
    write(
        &stand.path("input/a/in.png"),
        &std::fs::read(stand.path("output/made_00001_.png")).unwrap(),
    );
    let mut ws = stand.listen("c").await;
    let graph = json!({"10": {"class_type": "LoadImage", "inputs": {"image": "a/in.png"}},
        "11": {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["10", 0],
                "upscale_method": "bilinear",
                "width": 32,
                "height": 48,
                "crop": "disabled"
            }
        },
        "12": {"class_type": "ImageInvert", "inputs": {"image": ["11", 0]}},
        "13": {"class_type": "SaveImage", "inputs": {"images": ["12", 0], "filename_prefix": "t2"}},
        "14": {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}}});
    let id = stand.submit(&graph, "c").await;
    let messages = ws.run(&id).await;
    let nodes: Vec<&str> = messages
        .iter()
        .filter(|m| m["type"] == "executing")
        .filter_map(|m| m["data"]["node"].as_str())
        .collect();
    assert_eq!(nodes, ["10", "11", "14", "12", "13"]);
    let outputs = stand.outcome(&id).await["outputs"].clone();
    assert_eq!(outputs["14"]["images"][0]["type"], "temp");
    let picture = image::open(stand.path("output/t2_00001_.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(
        (picture.dimensions(), picture.get_pixel(0, 0).0),
        ((32, 48), [255; 3])
    );
    let (status, body) = stand
        .get("/api/view?filename=t2_00001_.png&type=output")
        .await;
    assert_eq!((status, body.is_empty()), (200, false));
    for (query, expected) in [
        ("filename=none.png", 404),
        ("filename=../x", 400),
        ("filename=a&type=other", 400),
        ("filename=a.png&subfolder=../..", 403),
        ("", 404),
    ] {
        assert_eq!(
            stand.get(&format!("/view?{query}")).await.0,
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn e_f_g_h_every_kind_of_output() {
    let stand = Stand::start(OLD).await;
    let graph = json!({"1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 3, "color": 255}
    },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "batch"}
        },
        "3": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {
                "images": ["1", 0],
                "filename_prefix": "anim",
                "fps": 6.0,
                "lossless": true,
                "quality": 80,
                "method": "default"
            }
        },
        "4": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 12}},
        "5": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["4", 0],
                "filename_prefix": "video/t5",
                "format": "auto",
                "codec": "auto"
            }
        },
        "6": {"class_type": "SimTone", "inputs": {"duration": 0.2, "pitch": 440}},
        "7": {"class_type": "SaveAudio", "inputs": {"audio": ["6", 0], "filename_prefix": "t6"}},
        "8": {"class_type": "SimSaveWAV", "inputs": {"audio": ["6", 0], "filename_prefix": "t6"}},
        "9": {"class_type": "GetImageSize", "inputs": {"image": ["1", 0]}},
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0]}},
        "11": {"class_type": "SimNaN", "inputs": {}},
        "12": {
            "class_type": "VHS_VideoCombine",
            "inputs": {
                "images": ["1", 0],
                "frame_rate": 8,
                "loop_count": 0,
                "filename_prefix": "vhs",
                "format": "video/h264-mp4",
                "pingpong": false,
                "save_output": true
            }
        },
        "13": {"class_type": "SimBlob", "inputs": {"bytes": 100_000, "filename_prefix": "blob"}}});
    let mut ws = stand.listen("other").await;
    let (_, reply) = stand
        .post("/prompt", &json!({"prompt": graph, "client_id": "c"}))
        .await;
    let id = reply["prompt_id"].as_str().unwrap();
    // The node's text goes to every socket.
    let text = loop {
        if let Message::Binary(bytes) = ws.next().await.unwrap() {
            break bytes;
        }
    };
    assert_eq!(
        &text[..],
        b"\0\0\0\x03\0\0\0\x019width: 64, height: 32\n batch size: 3"
    );
    let history = loop {
        let (_, text) = stand.get(&format!("/history/{id}")).await;
        if text != "{}" {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(history.contains(r#"{"values": [NaN]"#), "{history}");
    let outputs =
        serde_json::from_str::<Value>(&history.replace("NaN]", "null]")).unwrap()[id]["outputs"]
            .clone();
    assert_eq!(outputs["2"]["images"].as_array().unwrap().len(), 3);
    assert_eq!(
        outputs["3"],
        json!({
            "images": [{"filename": "anim_00001_.webp", "subfolder": "", "type": "output"}],
            "animated": [true]
        })
    );
    assert_eq!(
        outputs["5"],
        json!({
            "images": [{"filename": "t5_00001_.mp4", "subfolder": "video", "type": "output"}],
            "animated": [true]
        })
    );
    let mut sounds = [&outputs["7"], &outputs["8"]]
        .map(|o| o["audio"][0]["filename"].as_str().unwrap()[..8].to_owned());
    sounds.sort();
    assert_eq!(sounds, ["t6_00001", "t6_00002"]);
    assert_eq!(outputs["10"], json!({"text": ["64"]}));
    assert_eq!(outputs["12"]["gifs"][0]["format"], "video/h264-mp4");
    assert_eq!(
        std::fs::metadata(stand.path("output/blob_00001_.bin"))
            .unwrap()
            .len(),
        100_000
    );
    for file in ["output/anim_00001_.webp", "output/video/t5_00001_.mp4"] {
        let kind = infer::get_from_path(stand.path(file)).unwrap().unwrap();
        assert_eq!(kind.extension(), file.rsplit_once('.').unwrap().1);
    }
    // A real decoder, if the machine has one, reads the video and the sound.
    for (file, expected) in [
        ("output/video/t5_00001_.mp4", "3"),
        ("output/t6_00001_.wav", ""),
        ("output/t6_00001_.flac", ""),
    ] {
        if !stand.path(file).exists() {
            continue;
        }
        let probe = std::process::Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-count_frames",
                "-show_entries",
                "stream=nb_read_frames",
                "-of",
                "csv=p=0",
            ])
            .arg(stand.path(file))
            .output();
        if let Ok(probe) = probe {
            assert_eq!(String::from_utf8_lossy(&probe.stderr), "", "{file}");
            assert!(
                String::from_utf8_lossy(&probe.stdout)
                    .trim()
                    .starts_with(expected),
                "{file}: {probe:?}"
            );
        }
    }
}

#[tokio::test]
async fn i_run_time_error_beside_a_good_branch() {
    let stand = Stand::start(OLD).await;
    write(&stand.path("input/bad.png"), b"not a picture");
    let mut ws = stand.listen("c").await;
    let graph = json!({"1": {"class_type": "LoadImage", "inputs": {"image": "bad.png"}}, "2": {
        "class_type": "PreviewAny",
        "inputs": {"source": ["1", 0]}
    },
        "3": {"class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "4": {"class_type": "SaveImage",
        "inputs": {"images": ["3", 0], "filename_prefix": "good"}}});
    let id = stand.submit(&graph, "c").await;
    let messages = ws.run(&id).await;
    let error = &messages
        .iter()
        .find(|m| m["type"] == "execution_error")
        .unwrap()["data"];
    assert_eq!(
        (
            &error["node_id"],
            &error["node_type"],
            &error["exception_type"]
        ),
        (
            &json!("1"),
            &json!("LoadImage"),
            &json!("PIL.UnidentifiedImageError")
        )
    );
    assert_eq!(
        error["exception_message"],
        format!(
            "cannot identify image file '{}'\n",
            stand.path("input/bad.png").display()
        )
    );
    assert_eq!(error["current_inputs"], json!({"image": ["bad.png"]}));
    assert_eq!(
        without_states(&messages)[messages_tail(&messages)..],
        ["execution_error", "status 0", "executing null"]
    );
    let entry = stand.outcome(&id).await;
    assert_eq!(
        (
            &entry["status"]["status_str"],
            &entry["status"]["completed"]
        ),
        (&json!("error"), &json!(false))
    );
}

fn messages_tail(messages: &[Value]) -> usize {
    without_states(messages).len() - 3
}
