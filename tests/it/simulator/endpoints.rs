//! The cache, the jobs API, uploads, model folders, and the small endpoints.

use super::*;

#[tokio::test]
async fn the_folder_probe_finds_every_model_input() {
    for flags in [OLD, &[]] {
        let stand = Stand::start(flags).await;
        let folders = stand.get_json("/internal/folder_paths").await;
        for (name, directories) in folders.as_object().unwrap() {
            let extension = if name == "configs" {
                "yaml"
            } else {
                "safetensors"
            };
            write(
                &Path::new(directories[0].as_str().unwrap())
                    .join(format!("zz-probe--{name}--zz.{extension}")),
                b"",
            );
        }
        let info = stand.get_json("/object_info").await;
        let mut found = Vec::new();
        for (class, info) in info.as_object().unwrap() {
            for (input, spec) in info["input"]["required"].as_object().unwrap() {
                let options = if spec[0] == "COMBO" {
                    &spec[1]["options"]
                } else {
                    &spec[0]
                };
                for option in options
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    if let Some((folder, _)) = option
                        .strip_prefix("zz-probe--")
                        .and_then(|rest| rest.split_once("--zz"))
                    {
                        found.push(format!("{class}.{input}={folder}"));
                    }
                }
            }
        }
        for expected in [
            "CheckpointLoaderSimple.ckpt_name=checkpoints",
            "CLIPVisionLoader.clip_name=clip_vision",
            "CLIPLoader.clip_name=text_encoders",
            "UNETLoader.unet_name=diffusion_models",
            "CheckpointLoader.config_name=configs",
            "UpscaleModelLoader.model_name=upscale_models",
            "SimStyleLoader.style=simulator_styles",
            "VAELoader.vae_name=vae",
        ] {
            assert!(
                found.iter().any(|f| f == expected),
                "{expected} is not in {found:?}"
            );
        }
        assert_eq!(
            stand.get_json("/models/loras").await,
            json!(["zz-probe--loras--zz.safetensors"])
        );
        assert_eq!(stand.get("/models/unet").await.0, 404);
    }
}

#[tokio::test]
async fn jobs_of_the_current_version() {
    let stand = Stand::start(&[]).await;
    let running = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&running).await;
    let pending = stand.submit(&simple("p"), "c").await;
    let list = stand
        .get_json("/api/jobs?status=pending,in_progress&sort_order=asc")
        .await;
    assert_eq!(list["pagination"]["total"], 2);
    assert_eq!(
        stand
            .post(&format!("/api/jobs/{pending}/cancel"), &json!({}))
            .await,
        (200, json!({"cancelled": true}))
    );
    assert_eq!(stand.get(&format!("/api/jobs/{pending}")).await.0, 404);
    assert_eq!(
        stand
            .post(&format!("/api/jobs/{running}/cancel"), &json!({}))
            .await,
        (200, json!({"cancelled": true}))
    );
    stand.outcome(&running).await;
    assert_eq!(
        stand.get_json(&format!("/api/jobs/{running}")).await["status"],
        "cancelled"
    );
    assert_eq!(
        stand
            .post(&format!("/api/jobs/{running}/cancel"), &json!({}))
            .await,
        (200, json!({"cancelled": false}))
    );
    assert_eq!(
        stand.post("/api/jobs/nonsense/cancel", &json!({})).await.0,
        400
    );
    assert_eq!(stand.get("/jobs").await.0, 404);
    let old = Stand::start(OLD).await;
    assert_eq!(old.get("/api/jobs").await.0, 404);
}

#[tokio::test]
async fn uploads_and_small_endpoints() {
    let stand = Stand::start(&["--max-upload-size", "1"]).await;
    let upload = async |content: &'static [u8], extra: &[(&'static str, &'static str)]| {
        let mut form = reqwest::multipart::Form::new().part(
            "image",
            reqwest::multipart::Part::bytes(content).file_name("in.png"),
        );
        for (name, value) in extra {
            form = form.text(*name, *value);
        }
        let response = stand
            .http
            .post(format!("{}/upload/image", stand.simulator.url()))
            .multipart(form)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(
        upload(b"one", &[]).await,
        (
            200,
            r#"{"name": "in.png", "subfolder": "", "type": "input"}"#.to_owned()
        )
    );
    assert!(upload(b"one", &[]).await.1.contains(r#""in.png""#));
    assert!(upload(b"two", &[]).await.1.contains(r#""in (1).png""#));
    assert!(
        upload(b"two", &[("subfolder", "a/b"), ("overwrite", "true")])
            .await
            .1
            .contains(r#""subfolder": "a/b""#)
    );
    assert_eq!(
        std::fs::read(stand.path("input/a/b/in.png")).unwrap(),
        b"two"
    );
    assert_eq!(upload(b"two", &[("subfolder", "../..")]).await.0, 400);
    assert_eq!(upload(b"two", &[("type", "elsewhere")]).await.0, 500);
    assert_eq!(stand.post_text("/prompt", " ".repeat(1 << 21)).await.0, 413);
    let foreign = stand
        .http
        .get(format!("{}/prompt", stand.simulator.url()))
        .header("Origin", "https://example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(
        stand.get_json("/api/features").await["max_upload_size"],
        1_048_576
    );
    assert_eq!(
        stand.get_json("/system_stats").await["system"]["os"],
        "linux"
    );
    assert_eq!(stand.get("/health").await, (404, String::new()));
    assert_eq!(stand.get("/queue").await.0, 200);
    assert_eq!(stand.post_text("/queue", String::new()).await.0, 500);
    // Infinity and lone surrogates go in and come out as Python has them.
    let body = r#"{"prompt": {"1": {"class_type": "PrimitiveFloat", "inputs": {"value": 1e999}}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}, "3": {"class_type": "SimNaN", "inputs": {"text": "\ud800"}}}}"#;
    let (status, reply) = stand.post_text("/prompt", body.to_owned()).await;
    assert_eq!(status, 200, "{reply}");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, history) = stand.get("/history").await;
        if history != "{}" {
            assert!(
                history.contains(r#"{"value": Infinity}"#) && history.contains(r#""\ud800""#),
                "{history}"
            );
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn cache_policies() {
    let stand = Stand::start(OLD).await;
    for name in ["a", "b", "a"] {
        let id = stand
            .submit(
                &json!({
                    "1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": name}}
                }),
                "c",
            )
            .await;
        stand.outcome(&id).await;
    }
    assert!(
        stand.path("output/a_00002_.bin").exists(),
        "another prompt in between evicts"
    );
    let stand = Stand::start(&[]).await;
    for name in ["a", "b", "a"] {
        let id = stand
            .submit(
                &json!({
                    "1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": name}}
                }),
                "c",
            )
            .await;
        stand.outcome(&id).await;
    }
    assert!(
        !stand.path("output/a_00002_.bin").exists(),
        "newer versions keep more"
    );
    // Neither ids nor _meta matter; an unknown input does.
    let renumbered = json!({
        "77": {
            "class_type": "SimBlob",
            "_meta": {"title": "x"},
            "inputs": {"bytes": 1, "filename_prefix": "a"}
        }
    });
    let id = stand.submit(&renumbered, "c").await;
    assert_eq!(
        stand.outcome(&id).await["outputs"]["77"]["files"][0]["filename"],
        "a_00001_.bin"
    );
    let dummy = json!({
        "77": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "a", "_job": "1"}}
    });
    let id = stand.submit(&dummy, "c").await;
    assert_eq!(
        stand.outcome(&id).await["outputs"]["77"]["files"][0]["filename"],
        "a_00002_.bin"
    );
    // Two equal save nodes write one file.
    let twins = json!({
        "1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "t"}},
        "2": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "t"}}
    });
    let id = stand.submit(&twins, "c").await;
    let outputs = stand.outcome(&id).await["outputs"].clone();
    assert_eq!(outputs["1"], outputs["2"]);
    assert!(!stand.path("output/t_00002_.bin").exists());
}

#[tokio::test]
async fn newer_versions_show_loaded_videos_as_inputs() {
    for (flags, expected) in [
        (OLD, json!(null)),
        (
            &[][..],
            json!([{"filename": "v.mp4", "subfolder": "a", "type": "input"}]),
        ),
    ] {
        let stand = Stand::start(flags).await;
        write(&stand.path("input/a/v.mp4"), b"a video");
        let graph = json!({"1": {"class_type": "LoadVideo", "inputs": {"file": "a/v.mp4"}},
        "2": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["1", 0],
                "filename_prefix": "copy",
                "format": "auto",
                "codec": "auto"
            }
        }});
        let id = stand.submit(&graph, "c").await;
        assert_eq!(stand.outcome(&id).await["outputs"]["1"]["images"], expected);
        assert_eq!(
            std::fs::read(stand.path("output/copy_00001_.mp4")).unwrap(),
            b"a video"
        );
    }
}
