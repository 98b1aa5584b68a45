//! The observed runs: order of messages, outputs, queue, interrupt, previews.

use super::*;

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

#[tokio::test]
async fn k_queue_and_interrupt() {
    let stand = Stand::start(OLD).await;
    let (mut ws, mut other) = (stand.listen("c").await, stand.listen("other").await);
    let first = stand.submit(&simple("before"), "c").await;
    ws.run(&first).await;
    let running = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&running).await;
    let (low, deleted) = (
        stand.submit(&simple("low"), "c").await,
        stand.submit(&simple("deleted"), "c").await,
    );
    let (_, front) = stand
        .post(
            "/prompt",
            &json!({"prompt": simple("front"), "client_id": "c", "front": true}),
        )
        .await;
    assert_eq!(front["number"], -4);
    for id in [&low, "unknown"] {
        assert_eq!(
            stand
                .post_text("/interrupt", json!({"prompt_id": id}).to_string())
                .await,
            (200, String::new())
        );
    }
    assert_eq!(
        stand
            .post_text("/queue", json!({"delete": [deleted, running]}).to_string())
            .await,
        (200, String::new())
    );
    assert_eq!(
        stand.get_json(&format!("/history/{deleted}")).await,
        json!({})
    );
    assert_eq!(
        stand.get_json("/prompt").await["exec_info"]["queue_remaining"],
        3
    );
    stand
        .post("/interrupt", &json!({"prompt_id": running}))
        .await;
    let messages = ws.run(&running).await;
    let interrupted = messages
        .iter()
        .find(|m| m["type"] == "execution_interrupted")
        .unwrap();
    assert_eq!(
        (
            &interrupted["data"]["node_id"],
            &interrupted["data"]["node_type"]
        ),
        (&json!("7"), &json!("SimSleep"))
    );
    let entry = stand.outcome(&running).await;
    assert_eq!(
        entry["status"]["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()[0],
        "execution_interrupted"
    );
    assert_eq!(entry["status"]["status_str"], "error");
    ws.run(front["prompt_id"].as_str().unwrap()).await;
    ws.run(&low).await;
    // The other client saw only the queue.
    loop {
        let message = other.json().await;
        assert_eq!(message["type"], "status");
        if short(&message) == "status 0"
            && stand.get_json("/prompt").await["exec_info"]["queue_remaining"] == 0
        {
            break;
        }
    }
    // An interrupt of an idle server harms nobody.
    stand.post_text("/interrupt", String::new()).await;
    let id = stand.submit(&simple("after"), "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["completed"], true);
}

#[tokio::test]
async fn m_without_a_client_id() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c").await;
    let (_, body) = stand.post("/prompt", &json!({"prompt": simple("m")})).await;
    stand.outcome(body["prompt_id"].as_str().unwrap()).await;
    let id = stand.submit(&simple("mark"), "c").await;
    let messages = ws.run(&id).await;
    let start = messages
        .iter()
        .position(|m| m["type"] == "execution_start")
        .unwrap();
    let kinds: std::collections::BTreeSet<&str> = messages[..start]
        .iter()
        .map(|m| m["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["progress_state", "status"]
    );
}

#[tokio::test]
async fn n_o_reconnecting_and_the_bug_of_two_sockets() {
    let stand = Stand::start(OLD).await;
    let ws = stand.listen("c").await;
    let id = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&id).await;
    drop(ws);
    // Give the server's clean-up of the old socket time: the count of open sockets says when.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stand.get_json("/simulator/stats").await["sockets_open"] != 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut again = stand.listen("c").await;
    assert_eq!(again.json().await["data"]["sid"], "c");
    assert_eq!(
        again.json().await,
        json!({"type": "executing", "data": {"node": "7"}})
    );
    let mut second = stand.listen("c").await;
    second.json().await;
    stand.post("/interrupt", &json!({})).await;
    second.run(&id).await;
    // Closing the first deafens the second.
    again.socket.close(None).await.unwrap();
    while let Some(Ok(_)) = again.socket.next().await {}
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stand.get_json("/simulator/stats").await["sockets_open"] != 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = stand.submit(&simple("deaf"), "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["status_str"], "success");
    second
        .socket
        .send(Message::Ping("still there".into()))
        .await
        .unwrap();
    assert_eq!(
        second.next().await.unwrap(),
        Message::Pong("still there".into()),
        "open, and nothing but the pong"
    );
}

#[tokio::test]
async fn p_sampler_with_previews_of_both_kinds() {
    let stand = Stand::start(&["--imitate", "0.3.64", "--preview-method", "latent2rgb"]).await;
    write(&stand.path("models/checkpoints/m.safetensors"), b"x");
    let (mut plain, mut negotiated) = (
        stand.listen("plain").await,
        stand.listen("negotiated").await,
    );
    negotiated
        .socket
        .send(Message::text(
            json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}})
                .to_string(),
        ))
        .await
        .unwrap();
    while negotiated.json().await["type"] != "feature_flags" {}
    for (client, ws, expected) in [
        ("plain", &mut plain, [0, 1]),
        ("negotiated", &mut negotiated, [4, 0]),
    ] {
        stand.post("/free", &json!({"free_memory": true})).await;
        let id = stand.submit(&sampling(4), client).await;
        let mut order = Vec::new();
        loop {
            match ws.next().await.unwrap() {
                Message::Binary(bytes) => {
                    let kind = bytes[3];
                    order.push(kind);
                    if kind == 1 {
                        assert_eq!(&bytes[..10], [0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0xD8]);
                    } else {
                        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
                        let about: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
                        assert_eq!(
                            (&about["prompt_id"], &about["node_id"], &about["image_type"]),
                            (&json!(id), &json!("3"), &json!("image/jpeg"))
                        );
                    }
                }
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == "progress" {
                        order.push(0);
                    }
                    if message["type"] == "executing" && message["data"]["node"].is_null() {
                        break;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(order, expected.repeat(4), "{client}");
    }
    let picture = image::open(stand.path("output/ComfyUI_00002_.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
}

#[tokio::test]
async fn q_r_interrupt_in_and_behind_the_last_step() {
    let stand = Stand::start(OLD).await;
    let id = stand.submit(&sleeper(3.0, 0), "c").await;
    stand.until_running(&id).await;
    let mut ws = stand.listen("c").await;
    while ws.json().await["type"] != "executing" {}
    stand.post("/interrupt", &json!({"prompt_id": id})).await;
    assert_eq!(
        stand.outcome(&id).await["status"]["status_str"],
        "success",
        "too late: the last node runs to its end"
    );
}

#[tokio::test]
async fn s_logs_for_who_asks() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c").await;
    ws.json().await;
    let response = stand
        .http
        .patch(format!("{}/internal/logs/subscribe", stand.simulator.url()))
        .body(json!({"clientId": "c", "enabled": true}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    stand.submit(&simple("s"), "nobody").await;
    let logs = ws.json().await;
    assert_eq!(
        (
            &logs["type"],
            &logs["data"]["entries"][0]["m"],
            &logs["data"]["size"]
        ),
        (&json!("logs"), &json!("got prompt\n"), &json!(null))
    );
}
