//! The built-in ComfyUI against the observed runs of comfyui.md section 11: the letters are those of the runs.

use std::path::Path;
use std::time::Duration;

use comfyui_api::simulator::{Args, Simulator};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(20);
const OLD: &[&str] = &["--imitate", "0.3.64"];

struct Stand {
    simulator: Simulator,
    http: reqwest::Client,
    base: TempDir,
}

impl Stand {
    async fn start(flags: &[&str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let base = TempDir::new().unwrap();
        let mut args = Args::from_words(flags.iter().copied()).unwrap();
        args.base_directory = Some(base.path().to_path_buf());
        let simulator = Simulator::start(args).await.unwrap();
        Self { simulator, http: reqwest::Client::builder().no_proxy().build().unwrap(), base }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.base.path().join(name)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.simulator.url())).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn post_text(&self, path: &str, body: String) -> (u16, String) {
        let response = self.http.post(format!("{}{path}", self.simulator.url())).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.post_text(path, body.to_string()).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn submit(&self, graph: &Value, client: &str) -> String {
        let (status, body) = self.post("/prompt", &json!({"prompt": graph, "client_id": client})).await;
        assert_eq!((status, &body["node_errors"]), (200, &json!({})), "{body}");
        body["prompt_id"].as_str().unwrap().to_owned()
    }

    async fn listen(&self, client: &str) -> Listener {
        let stream = TcpStream::connect(self.simulator.address()).await.unwrap();
        let url = format!("ws://{}/ws?clientId={client}", self.simulator.address());
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Listener { socket }
    }

    /// Asks until the prompt is in the history.
    async fn outcome(&self, id: &str) -> Value {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let mut entry = self.get_json(&format!("/history/{id}")).await;
                if let Some(entry) = entry.get_mut(id) {
                    return entry.take();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("no history entry in time")
    }

    /// Asks until that many prompts are running or waiting.
    async fn until_running(&self, id: &str) {
        tokio::time::timeout(PATIENCE, async {
            while self.get_json("/queue").await["queue_running"][0][1] != id {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the prompt never ran");
    }
}

struct Listener {
    socket: WebSocketStream<TcpStream>,
}

impl Listener {
    async fn next(&mut self) -> Option<Message> {
        tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("no message in time").and_then(Result::ok)
    }

    async fn json(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.next().await.expect("the socket ended") {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Everything up to the end of a prompt.
    async fn run(&mut self, id: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message = self.json().await;
            let over = message["type"] == "executing" && message["data"]["node"].is_null() && message["data"]["prompt_id"] == id;
            messages.push(message);
            if over {
                return messages;
            }
        }
    }
}

/// A message in the short form of section 11.
fn short(message: &Value) -> String {
    let (kind, data) = (message["type"].as_str().unwrap(), &message["data"]);
    match kind {
        "status" => format!("status {}", data["status"]["exec_info"]["queue_remaining"]),
        "executing" | "executed" => format!("{kind} {}", data["node"].as_str().unwrap_or("null")),
        "execution_cached" => format!("cached {}", data["nodes"]),
        "progress" => format!("progress {}/{}", data["value"], data["max"]),
        "progress_state" => {
            let nodes = data["nodes"].as_object().unwrap();
            let states: Vec<String> = nodes.iter().map(|(id, node)| format!("{id} {}", node["state"].as_str().unwrap())).collect();
            format!("state {}", states.join(", "))
        }
        kind => kind.to_owned(),
    }
}

fn shorts(messages: &[Value]) -> Vec<String> {
    messages.iter().map(short).collect()
}

fn without_states(messages: &[Value]) -> Vec<String> {
    shorts(messages).into_iter().filter(|text| !text.starts_with("state")).collect()
}

fn simple(prefix: &str) -> Value {
    json!({"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
           "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}}})
}

fn sleeper(seconds: f64, steps: u32) -> Value {
    json!({"7": {"class_type": "SimSleep", "inputs": {"seconds": seconds, "steps": steps}}})
}

fn sampling(steps: u32) -> Value {
    json!({"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
           "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
           "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 1]}},
           "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": steps, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
                 "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}},
           "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
           "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}}})
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_b_c_simple_then_cached_then_partly_cached() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c1").await;
    let hello = ws.json().await;
    assert_eq!((&hello["data"]["sid"], short(&hello)), (&json!("c1"), "status 0".to_owned()));
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
    assert_eq!(messages[9]["data"]["output"], json!({"images": [{"filename": "t1_00001_.png", "subfolder": "", "type": "output"}]}));
    let entry = stand.outcome(&id).await;
    assert_eq!(entry["prompt"][4], json!(["2"]));
    assert_eq!(entry["status"]["status_str"], "success");
    assert_eq!(entry["status"]["messages"].as_array().unwrap().len(), 3);
    assert_eq!(entry["meta"]["2"], json!({"node_id": "2", "display_node": "2", "parent_node": null, "real_node_id": "2"}));

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
    assert_eq!(messages[4]["data"]["output"]["images"][0]["filename"], "t1_00001_.png");
    assert!(!stand.path("output/t1_00001_.png").exists(), "a cached save writes nothing");

    let id = stand.submit(&simple("jobs/abc/%width%x%height%_%date:yyyy%"), "c1").await;
    let messages = ws.run(&id).await;
    assert_eq!(without_states(&messages)[3..6], ["cached [\"1\"]", "executing 2", "executed 2"]);
    assert_eq!(
        stand.outcome(&id).await["outputs"]["2"]["images"],
        json!([{"filename": "64x64_%date:yyyy%_00001_.png", "subfolder": "jobs/abc", "type": "output"}])
    );
}

#[tokio::test]
async fn d_load_change_save_and_preview() {
    let stand = Stand::start(OLD).await;
    let id = stand.submit(&simple("made"), "nobody").await;
    stand.outcome(&id).await;
    write(&stand.path("input/a/in.png"), &std::fs::read(stand.path("output/made_00001_.png")).unwrap());
    let mut ws = stand.listen("c").await;
    let graph = json!({"10": {"class_type": "LoadImage", "inputs": {"image": "a/in.png"}},
        "11": {"class_type": "ImageScale", "inputs": {"image": ["10", 0], "upscale_method": "bilinear", "width": 32, "height": 48, "crop": "disabled"}},
        "12": {"class_type": "ImageInvert", "inputs": {"image": ["11", 0]}},
        "13": {"class_type": "SaveImage", "inputs": {"images": ["12", 0], "filename_prefix": "t2"}},
        "14": {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}}});
    let id = stand.submit(&graph, "c").await;
    let messages = ws.run(&id).await;
    let nodes: Vec<&str> = messages.iter().filter(|m| m["type"] == "executing").filter_map(|m| m["data"]["node"].as_str()).collect();
    assert_eq!(nodes, ["10", "11", "14", "12", "13"]);
    let outputs = stand.outcome(&id).await["outputs"].clone();
    assert_eq!(outputs["14"]["images"][0]["type"], "temp");
    let picture = image::open(stand.path("output/t2_00001_.png")).unwrap().to_rgb8();
    assert_eq!((picture.dimensions(), picture.get_pixel(0, 0).0), ((32, 48), [255; 3]));
    let (status, body) = stand.get("/api/view?filename=t2_00001_.png&type=output").await;
    assert_eq!((status, body.is_empty()), (200, false));
    for (query, expected) in
        [("filename=none.png", 404), ("filename=../x", 400), ("filename=a&type=other", 400), ("filename=a.png&subfolder=../..", 403), ("", 404)]
    {
        assert_eq!(stand.get(&format!("/view?{query}")).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn e_f_g_h_every_kind_of_output() {
    let stand = Stand::start(OLD).await;
    let graph = json!({"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 3, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "batch"}},
        "3": {"class_type": "SaveAnimatedWEBP", "inputs": {"images": ["1", 0], "filename_prefix": "anim", "fps": 6.0, "lossless": true, "quality": 80, "method": "default"}},
        "4": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 12}},
        "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0], "filename_prefix": "video/t5", "format": "auto", "codec": "auto"}},
        "6": {"class_type": "SimTone", "inputs": {"duration": 0.2, "pitch": 440}},
        "7": {"class_type": "SaveAudio", "inputs": {"audio": ["6", 0], "filename_prefix": "t6"}},
        "8": {"class_type": "SimSaveWAV", "inputs": {"audio": ["6", 0], "filename_prefix": "t6"}},
        "9": {"class_type": "GetImageSize", "inputs": {"image": ["1", 0]}},
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0]}},
        "11": {"class_type": "SimNaN", "inputs": {}},
        "12": {"class_type": "VHS_VideoCombine", "inputs": {"images": ["1", 0], "frame_rate": 8, "loop_count": 0, "filename_prefix": "vhs", "format": "video/h264-mp4", "pingpong": false, "save_output": true}},
        "13": {"class_type": "SimBlob", "inputs": {"bytes": 100_000, "filename_prefix": "blob"}}});
    let mut ws = stand.listen("other").await;
    let (_, reply) = stand.post("/prompt", &json!({"prompt": graph, "client_id": "c"})).await;
    let id = reply["prompt_id"].as_str().unwrap();
    // The node's text goes to every socket.
    let text = loop {
        if let Message::Binary(bytes) = ws.next().await.unwrap() {
            break bytes;
        }
    };
    assert_eq!(&text[..], b"\0\0\0\x03\0\0\0\x019width: 64, height: 32\n batch size: 3");
    let history = loop {
        let (_, text) = stand.get(&format!("/history/{id}")).await;
        if text != "{}" {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(history.contains(r#"{"values": [NaN]"#), "{history}");
    let outputs = serde_json::from_str::<Value>(&history.replace("NaN]", "null]")).unwrap()[id]["outputs"].clone();
    assert_eq!(outputs["2"]["images"].as_array().unwrap().len(), 3);
    assert_eq!(outputs["3"], json!({"images": [{"filename": "anim_00001_.webp", "subfolder": "", "type": "output"}], "animated": [true]}));
    assert_eq!(outputs["5"], json!({"images": [{"filename": "t5_00001_.mp4", "subfolder": "video", "type": "output"}], "animated": [true]}));
    let mut sounds = [&outputs["7"], &outputs["8"]].map(|o| o["audio"][0]["filename"].as_str().unwrap()[..8].to_owned());
    sounds.sort();
    assert_eq!(sounds, ["t6_00001", "t6_00002"]);
    assert_eq!(outputs["10"], json!({"text": ["64"]}));
    assert_eq!(outputs["12"]["gifs"][0]["format"], "video/h264-mp4");
    assert_eq!(std::fs::metadata(stand.path("output/blob_00001_.bin")).unwrap().len(), 100_000);
    for file in ["output/anim_00001_.webp", "output/video/t5_00001_.mp4"] {
        let kind = infer::get_from_path(stand.path(file)).unwrap().unwrap();
        assert_eq!(kind.extension(), file.rsplit_once('.').unwrap().1);
    }
    // A real decoder, if the machine has one, reads the video and the sound.
    for (file, expected) in [("output/video/t5_00001_.mp4", "3"), ("output/t6_00001_.wav", ""), ("output/t6_00001_.flac", "")] {
        if !stand.path(file).exists() {
            continue;
        }
        let probe = std::process::Command::new("ffprobe")
            .args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
            .arg(stand.path(file))
            .output();
        if let Ok(probe) = probe {
            assert_eq!(String::from_utf8_lossy(&probe.stderr), "", "{file}");
            assert!(String::from_utf8_lossy(&probe.stdout).trim().starts_with(expected), "{file}: {probe:?}");
        }
    }
}

#[tokio::test]
async fn i_run_time_error_beside_a_good_branch() {
    let stand = Stand::start(OLD).await;
    write(&stand.path("input/bad.png"), b"not a picture");
    let mut ws = stand.listen("c").await;
    let graph = json!({"1": {"class_type": "LoadImage", "inputs": {"image": "bad.png"}}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        "3": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}, "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "good"}}});
    let id = stand.submit(&graph, "c").await;
    let messages = ws.run(&id).await;
    let error = &messages.iter().find(|m| m["type"] == "execution_error").unwrap()["data"];
    assert_eq!((&error["node_id"], &error["node_type"], &error["exception_type"]), (&json!("1"), &json!("LoadImage"), &json!("PIL.UnidentifiedImageError")));
    assert_eq!(error["exception_message"], format!("cannot identify image file '{}'\n", stand.path("input/bad.png").display()));
    assert_eq!(error["current_inputs"], json!({"image": ["bad.png"]}));
    assert_eq!(without_states(&messages)[messages_tail(&messages)..], ["execution_error", "status 0", "executing null"]);
    let entry = stand.outcome(&id).await;
    assert_eq!((&entry["status"]["status_str"], &entry["status"]["completed"]), (&json!("error"), &json!(false)));
}

fn messages_tail(messages: &[Value]) -> usize {
    without_states(messages).len() - 3
}

#[tokio::test]
async fn j_validation_errors_word_for_word() {
    let stand = Stand::start(OLD).await;
    let refused = async |graph: Value| {
        let (status, body) = stand.post("/prompt", &json!({"prompt": graph})).await;
        assert_eq!(status, 400, "{body}");
        body
    };
    assert_eq!(
        refused(json!({"1": {"class_type": "NoSuchNode", "inputs": {}}})).await,
        json!({"error": {"type": "invalid_prompt", "message": "Cannot execute because node NoSuchNode does not exist.", "details": "Node ID '#1'", "extra_info": {}}, "node_errors": {}})
    );
    assert_eq!(
        refused(json!({"2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}})).await,
        json!({"error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": "Required input is missing: images", "extra_info": {}},
            "node_errors": {"2": {"errors": [{"type": "required_input_missing", "message": "Required input is missing", "details": "images", "extra_info": {"input_name": "images"}}],
                "dependent_outputs": ["2"], "class_type": "SaveImage"}}})
    );
    assert_eq!(refused(json!({})).await["error"]["type"], "prompt_no_outputs");
    assert_eq!(refused(json!({"nodes": {}})).await["error"]["details"], "Node ID '#nodes'");
    let body = refused(json!({"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "nope.safetensors"}}, "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})).await;
    assert_eq!(body["error"]["details"], "");
    let error = &body["node_errors"]["1"];
    assert_eq!((&error["errors"][0]["details"], &error["dependent_outputs"]), (&json!("ckpt_name: 'nope.safetensors' not in []"), &json!(["4"])));
    assert_eq!(error["errors"][0]["extra_info"]["input_config"][0], json!([]));
    let body = refused(
        json!({"1": {"class_type": "LoadImage", "inputs": {"image": "nope.png"}}, "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}),
    )
    .await;
    assert_eq!(
        body["node_errors"]["1"]["errors"][0],
        json!({"type": "custom_validation_failed", "message": "Custom validation failed for node",
        "details": "image - Invalid image file: nope.png", "extra_info": {"input_name": "image"}})
    );
    let cycle = json!({"1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}}, "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}, "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}});
    let body = refused(cycle.clone()).await;
    assert_eq!((&body["error"]["details"], &body["node_errors"]), (&json!(""), &json!({})));
    let body = refused(json!({"1": {"class_type": "PreviewImage", "inputs": {"images": ["99", 0]}}})).await;
    assert_eq!(
        (&body["node_errors"]["1"]["errors"][0]["type"], &body["node_errors"]["1"]["errors"][0]["details"]),
        (&json!("exception_during_validation"), &json!("'99'"))
    );
    // One good and one bad output: 200 with the errors.
    let mut mixed = simple("good");
    mixed["3"] = json!({"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}});
    let (status, body) = stand.post("/prompt", &json!({"prompt": mixed})).await;
    assert_eq!((status, body["node_errors"].get("3").is_some()), (200, true));
    // What is not JSON, and what is too large.
    let (status, text) = stand.post_text("/prompt", "{".into()).await;
    assert_eq!((status, text.as_str()), (500, "500 Internal Server Error\n\nServer got itself in trouble"));
    assert_eq!(stand.post("/prompt", &json!({})).await.1["error"]["type"], "no_prompt");
    // V3 combos are not checked in this version, and are in the newer one.
    let v3 = json!({"1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "nope.safetensors"}}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}});
    let id = stand.submit(&v3, "c").await;
    let entry = stand.outcome(&id).await;
    assert_eq!(entry["status"]["messages"][2][1]["exception_message"], "Model in folder 'upscale_models' with filename 'nope.safetensors' not found.\n");
    let newer = Stand::start(&[]).await;
    assert_eq!(newer.post("/prompt", &json!({"prompt": v3})).await.1["node_errors"]["1"]["errors"][0]["type"], "value_not_in_list");
    assert!(newer.post("/prompt", &json!({"prompt": cycle})).await.1["node_errors"].to_string().contains("dependency_cycle"));
    assert_eq!(newer.post("/prompt", &json!({"prompt": {"1": {"class_type": "No", "inputs": {}}}})).await.1["error"]["type"], "missing_node_type");
}

#[tokio::test]
async fn k_queue_and_interrupt() {
    let stand = Stand::start(OLD).await;
    let (mut ws, mut other) = (stand.listen("c").await, stand.listen("other").await);
    let first = stand.submit(&simple("before"), "c").await;
    ws.run(&first).await;
    let running = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&running).await;
    let (low, deleted) = (stand.submit(&simple("low"), "c").await, stand.submit(&simple("deleted"), "c").await);
    let (_, front) = stand.post("/prompt", &json!({"prompt": simple("front"), "client_id": "c", "front": true})).await;
    assert_eq!(front["number"], -4);
    for id in [&low, "unknown"] {
        assert_eq!(stand.post_text("/interrupt", json!({"prompt_id": id}).to_string()).await, (200, String::new()));
    }
    assert_eq!(stand.post_text("/queue", json!({"delete": [deleted, running]}).to_string()).await, (200, String::new()));
    assert_eq!(stand.get_json(&format!("/history/{deleted}")).await, json!({}));
    assert_eq!(stand.get_json("/prompt").await["exec_info"]["queue_remaining"], 3);
    stand.post("/interrupt", &json!({"prompt_id": running})).await;
    let messages = ws.run(&running).await;
    let interrupted = messages.iter().find(|m| m["type"] == "execution_interrupted").unwrap();
    assert_eq!((&interrupted["data"]["node_id"], &interrupted["data"]["node_type"]), (&json!("7"), &json!("SimSleep")));
    let entry = stand.outcome(&running).await;
    assert_eq!(entry["status"]["messages"].as_array().unwrap().last().unwrap()[0], "execution_interrupted");
    assert_eq!(entry["status"]["status_str"], "error");
    ws.run(front["prompt_id"].as_str().unwrap()).await;
    ws.run(&low).await;
    // The other client saw only the queue.
    loop {
        let message = other.json().await;
        assert_eq!(message["type"], "status");
        if short(&message) == "status 0" && stand.get_json("/prompt").await["exec_info"]["queue_remaining"] == 0 {
            break;
        }
    }
    // An interrupt of an idle server harms nobody.
    stand.post_text("/interrupt", String::new()).await;
    let id = stand.submit(&simple("after"), "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["completed"], true);
}

#[tokio::test]
async fn l_ids_old_and_new() {
    let old = Stand::start(OLD).await;
    for (given, shown, path) in
        [(json!("my-job-1"), "my-job-1", "my-job-1"), (json!("a/b c"), "a/b c", "a%2Fb%20c"), (json!(12345), "12345", "12345"), (json!(null), "None", "None")]
    {
        let (status, body) = old.post("/prompt", &json!({"prompt": simple("ids"), "prompt_id": given})).await;
        assert_eq!((status, &body["prompt_id"]), (200, &json!(shown)));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while old.get_json(&format!("/history/{path}")).await.get(shown).is_none() {
            assert!(tokio::time::Instant::now() < deadline, "{shown}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let new = Stand::start(&[]).await;
    for id in [json!("my-job-1"), json!("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), json!(5)] {
        let (status, body) = new.post("/prompt", &json!({"prompt": simple("ids"), "prompt_id": id})).await;
        assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_prompt_id")));
    }
    assert_eq!(new.post("/prompt", &json!({"prompt": simple("ids"), "prompt_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"})).await.0, 200);
}

#[tokio::test]
async fn m_without_a_client_id() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c").await;
    let (_, body) = stand.post("/prompt", &json!({"prompt": simple("m")})).await;
    stand.outcome(body["prompt_id"].as_str().unwrap()).await;
    let id = stand.submit(&simple("mark"), "c").await;
    let messages = ws.run(&id).await;
    let start = messages.iter().position(|m| m["type"] == "execution_start").unwrap();
    let kinds: std::collections::BTreeSet<&str> = messages[..start].iter().map(|m| m["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["progress_state", "status"]);
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
    assert_eq!(again.json().await, json!({"type": "executing", "data": {"node": "7"}}));
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
    second.socket.send(Message::Ping("still there".into())).await.unwrap();
    assert_eq!(second.next().await.unwrap(), Message::Pong("still there".into()), "open, and nothing but the pong");
}

#[tokio::test]
async fn p_sampler_with_previews_of_both_kinds() {
    let stand = Stand::start(&["--imitate", "0.3.64", "--preview-method", "latent2rgb"]).await;
    write(&stand.path("models/checkpoints/m.safetensors"), b"x");
    let (mut plain, mut negotiated) = (stand.listen("plain").await, stand.listen("negotiated").await);
    negotiated.socket.send(Message::text(json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}}).to_string())).await.unwrap();
    while negotiated.json().await["type"] != "feature_flags" {}
    for (client, ws, expected) in [("plain", &mut plain, [0, 1]), ("negotiated", &mut negotiated, [4, 0])] {
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
                        assert_eq!((&about["prompt_id"], &about["node_id"], &about["image_type"]), (&json!(id), &json!("3"), &json!("image/jpeg")));
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
    let id = stand.submit(&sleeper(0.5, 0), "c").await;
    stand.until_running(&id).await;
    let mut ws = stand.listen("c").await;
    while ws.json().await["type"] != "executing" {}
    stand.post("/interrupt", &json!({"prompt_id": id})).await;
    assert_eq!(stand.outcome(&id).await["status"]["status_str"], "success", "too late: the last node runs to its end");
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
    assert_eq!((&logs["type"], &logs["data"]["entries"][0]["m"], &logs["data"]["size"]), (&json!("logs"), &json!("got prompt\n"), &json!(null)));
}

#[tokio::test]
async fn the_folder_probe_finds_every_model_input() {
    for flags in [OLD, &[]] {
        let stand = Stand::start(flags).await;
        let folders = stand.get_json("/internal/folder_paths").await;
        for (name, directories) in folders.as_object().unwrap() {
            let extension = if name == "configs" { "yaml" } else { "safetensors" };
            write(&Path::new(directories[0].as_str().unwrap()).join(format!("zz-probe--{name}--zz.{extension}")), b"");
        }
        let info = stand.get_json("/object_info").await;
        let mut found = Vec::new();
        for (class, info) in info.as_object().unwrap() {
            for (input, spec) in info["input"]["required"].as_object().unwrap() {
                let options = if spec[0] == "COMBO" { &spec[1]["options"] } else { &spec[0] };
                for option in options.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if let Some((folder, _)) = option.strip_prefix("zz-probe--").and_then(|rest| rest.split_once("--zz")) {
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
            assert!(found.iter().any(|f| f == expected), "{expected} is not in {found:?}");
        }
        assert_eq!(stand.get_json("/models/loras").await, json!(["zz-probe--loras--zz.safetensors"]));
        assert_eq!(stand.get("/models/unet").await.0, 404);
    }
}

#[tokio::test]
async fn faults_of_the_websocket() {
    let stand = Stand::start(&[]).await;
    let fault = async |change: Value| assert_eq!(stand.post("/simulator/faults", &change).await.0, 200);
    let mut ws = stand.listen("c").await;
    ws.json().await;
    fault(json!({"drop_websockets": true, "refuse_websockets_ms": 60_000})).await;
    assert!(ws.next().await.is_none(), "cut");
    let stream = TcpStream::connect(stand.simulator.address()).await.unwrap();
    let refused = tokio_tungstenite::client_async(format!("ws://{}/ws", stand.simulator.address()), stream).await;
    assert!(refused.is_err());
    fault(json!({"reset": true, "deafen_websockets": true})).await;
    let mut ws = stand.listen("c").await;
    let id = stand.submit(&simple("deaf"), "c").await;
    stand.outcome(&id).await;
    ws.socket.send(Message::Ping("x".into())).await.unwrap();
    assert!(matches!(ws.next().await.unwrap(), Message::Pong(_)), "deaf sockets answer pings only");
    fault(json!({"reset": true, "freeze_websockets": true})).await;
    ws.socket.send(Message::Ping("y".into())).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), ws.socket.next()).await.is_err(), "frozen sockets answer nothing");
    fault(json!({"reset": true, "drop_websockets_after": 3})).await;
    drop(ws);
    let mut ws = stand.listen("d").await;
    stand.submit(&simple("cut"), "d").await;
    let mut count = 0;
    while ws.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(stand.post("/simulator/faults", &json!({"unknown": 1})).await.0, 400);
}

#[tokio::test]
async fn faults_of_the_worker_and_of_http() {
    let stand = Stand::start(&["--fail-class", "ImageInvert", "--cpu"]).await;
    let mut graph = simple("x");
    graph["2"]["inputs"]["images"] = json!(["3", 0]);
    graph["3"] = json!({"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}});
    let id = stand.submit(&graph, "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["messages"][2][0], "execution_error");
    stand.simulator.set_faults(&json!({"lose_prompts": 1, "history_delay_ms": 100})).unwrap();
    let lost = stand.submit(&simple("lost"), "c").await;
    let kept = stand.submit(&simple("kept"), "c").await;
    stand.outcome(&kept).await;
    assert_eq!(stand.get_json(&format!("/history/{lost}")).await, json!({}));
    stand.simulator.set_faults(&json!({"reset": true, "hang_http": true})).unwrap();
    let hanging = stand.http.get(format!("{}/prompt", stand.simulator.url())).timeout(Duration::from_millis(200)).send().await;
    assert!(hanging.unwrap_err().is_timeout());
    stand.simulator.set_faults(&json!({"hang_http": false, "dead_worker": true})).unwrap();
    let stuck = stand.submit(&simple("stuck"), "c").await;
    stand.until_running(&stuck).await;
    assert!(stand.get("/internal/logs").await.1.contains("(prompt_worker)"));
    stand.simulator.set_faults(&json!({"crash": 7})).unwrap();
    assert_eq!(stand.simulator.crashed(), Some(7));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(stand.simulator.address()).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the port is still open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn jobs_of_the_current_version() {
    let stand = Stand::start(&[]).await;
    let running = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&running).await;
    let pending = stand.submit(&simple("p"), "c").await;
    let list = stand.get_json("/api/jobs?status=pending,in_progress&sort_order=asc").await;
    assert_eq!(list["pagination"]["total"], 2);
    assert_eq!(stand.post(&format!("/api/jobs/{pending}/cancel"), &json!({})).await, (200, json!({"cancelled": true})));
    assert_eq!(stand.get(&format!("/api/jobs/{pending}")).await.0, 404);
    assert_eq!(stand.post(&format!("/api/jobs/{running}/cancel"), &json!({})).await, (200, json!({"cancelled": true})));
    stand.outcome(&running).await;
    assert_eq!(stand.get_json(&format!("/api/jobs/{running}")).await["status"], "cancelled");
    assert_eq!(stand.post(&format!("/api/jobs/{running}/cancel"), &json!({})).await, (200, json!({"cancelled": false})));
    assert_eq!(stand.post("/api/jobs/nonsense/cancel", &json!({})).await.0, 400);
    assert_eq!(stand.get("/jobs").await.0, 404);
    let old = Stand::start(OLD).await;
    assert_eq!(old.get("/api/jobs").await.0, 404);
}

#[tokio::test]
async fn uploads_and_small_endpoints() {
    let stand = Stand::start(&["--max-upload-size", "1"]).await;
    let upload = async |content: &'static [u8], extra: &[(&'static str, &'static str)]| {
        let mut form = reqwest::multipart::Form::new().part("image", reqwest::multipart::Part::bytes(content).file_name("in.png"));
        for (name, value) in extra {
            form = form.text(*name, *value);
        }
        let response = stand.http.post(format!("{}/upload/image", stand.simulator.url())).multipart(form).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(upload(b"one", &[]).await, (200, r#"{"name": "in.png", "subfolder": "", "type": "input"}"#.to_owned()));
    assert!(upload(b"one", &[]).await.1.contains(r#""in.png""#));
    assert!(upload(b"two", &[]).await.1.contains(r#""in (1).png""#));
    assert!(upload(b"two", &[("subfolder", "a/b"), ("overwrite", "true")]).await.1.contains(r#""subfolder": "a/b""#));
    assert_eq!(std::fs::read(stand.path("input/a/b/in.png")).unwrap(), b"two");
    assert_eq!(upload(b"two", &[("subfolder", "../..")]).await.0, 400);
    assert_eq!(upload(b"two", &[("type", "elsewhere")]).await.0, 500);
    assert_eq!(stand.post_text("/prompt", " ".repeat(1 << 21)).await.0, 413);
    let foreign = stand.http.get(format!("{}/prompt", stand.simulator.url())).header("Origin", "https://example.com").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(stand.get_json("/api/features").await["max_upload_size"], 1_048_576);
    assert_eq!(stand.get_json("/system_stats").await["system"]["os"], "linux");
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
            assert!(history.contains(r#"{"value": Infinity}"#) && history.contains(r#""\ud800""#), "{history}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The simulator as a process of its own.
struct Child {
    process: tokio::process::Child,
    port: u16,
    errors: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStderr>>,
    base: TempDir,
}

impl Child {
    async fn spawn(flags: &[&str]) -> Self {
        use tokio::io::AsyncBufReadExt as _;
        let base = TempDir::new().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_comfyui-api"));
        command.args(["simulate-comfyui", "--port", "0", "--base-directory"]).arg(base.path()).args(flags);
        let mut process = command.stderr(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut errors = tokio::io::BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = async {
            let mut lines = Vec::new();
            while let Some(line) = errors.next_line().await.unwrap() {
                if let Some(port) = line.strip_prefix("To see the GUI go to: http://127.0.0.1:") {
                    assert!(lines.iter().any(|line| line == "Starting server"), "{lines:?}");
                    return port.parse().unwrap();
                }
                lines.push(line);
            }
            panic!("the simulator ended before it listened: {lines:?}");
        };
        let port = tokio::time::timeout(PATIENCE, ready).await.expect("not ready in time");
        Self { process, port, errors, base }
    }

    async fn submit(&self, graph: &Value) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/prompt", self.port);
        assert_eq!(http.post(url).body(json!({"prompt": graph}).to_string()).send().await.unwrap().status(), 200);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it did not end").unwrap()
    }
}

#[tokio::test]
async fn as_a_process_it_ends_as_comfyui_does() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut child = Child::spawn(&["--cpu"]).await;
    child.submit(&sleeper(60.0, 0)).await;
    child.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.ended().await.code(), Some(0));
    assert!(!child.base.path().join("temp").exists());

    let mut child = Child::spawn(&[]).await;
    let taken = child.port.to_string();
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_comfyui-api"))
        .args(["simulate-comfyui", "--port", &taken, "--base-directory"])
        .arg(TempDir::new().unwrap().path())
        .output();
    let second = tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("error while attempting to bind"));
    child.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.ended().await.signal(), Some(15));
    assert!(child.base.path().join("temp").exists());

    let mut child = Child::spawn(&["--crash-class", "SaveImage"]).await;
    child.submit(&simple("x")).await;
    assert_eq!(child.ended().await.code(), Some(1));

    let mut child = Child::spawn(&["--faults", r#"{"dead_worker": true}"#]).await;
    child.submit(&simple("x")).await;
    let seen = async {
        while let Some(line) = child.errors.next_line().await.unwrap() {
            if line.starts_with("Exception in thread") && line.contains("(prompt_worker)") {
                return;
            }
        }
        panic!("the worker's death was not reported");
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn cache_policies() {
    let stand = Stand::start(OLD).await;
    for name in ["a", "b", "a"] {
        let id = stand.submit(&json!({"1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": name}}}), "c").await;
        stand.outcome(&id).await;
    }
    assert!(stand.path("output/a_00002_.bin").exists(), "another prompt in between evicts");
    let stand = Stand::start(&[]).await;
    for name in ["a", "b", "a"] {
        let id = stand.submit(&json!({"1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": name}}}), "c").await;
        stand.outcome(&id).await;
    }
    assert!(!stand.path("output/a_00002_.bin").exists(), "newer versions keep more");
    // Neither ids nor _meta matter; an unknown input does.
    let renumbered = json!({"77": {"class_type": "SimBlob", "_meta": {"title": "x"}, "inputs": {"bytes": 1, "filename_prefix": "a"}}});
    let id = stand.submit(&renumbered, "c").await;
    assert_eq!(stand.outcome(&id).await["outputs"]["77"]["files"][0]["filename"], "a_00001_.bin");
    let dummy = json!({"77": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "a", "_job": "1"}}});
    let id = stand.submit(&dummy, "c").await;
    assert_eq!(stand.outcome(&id).await["outputs"]["77"]["files"][0]["filename"], "a_00002_.bin");
    // Two equal save nodes write one file.
    let twins = json!({"1": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "t"}}, "2": {"class_type": "SimBlob", "inputs": {"bytes": 1, "filename_prefix": "t"}}});
    let id = stand.submit(&twins, "c").await;
    let outputs = stand.outcome(&id).await["outputs"].clone();
    assert_eq!(outputs["1"], outputs["2"]);
    assert!(!stand.path("output/t_00002_.bin").exists());
}
