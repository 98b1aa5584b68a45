//! `comfyui-api mcp`: the protocol on stdin and stdout, forwarded.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{STATELESS, call, structured, until_status};
use crate::support::graphs;
use crate::support::product::{BINARY, PATIENCE, Product};

struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    fn start(url: &str, key: Option<&str>, arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(["mcp", "--url", url])
            .args(arguments)
            .env_remove("COMFYUI_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if let Some(key) = key {
            command.env("COMFYUI_API_KEY", key);
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            input: child.stdin.take(),
            output,
            child,
        }
    }

    async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.input
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .await
            .unwrap();
    }

    /// The next message; everything on stdout is one.
    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, revision: &str, method: &str, params: Value) -> Value {
        self.send(&call(revision, method, params).body).await;
        loop {
            let message = self.next().await;
            if message["id"] == 7 {
                return message;
            }
        }
    }

    async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let answer = self
            .ask(
                STATELESS,
                "tools/call",
                json!({"name": name, "arguments": arguments}),
            )
            .await;
        answer["result"].clone()
    }

    /// Closes stdin; the exit code.
    async fn end(mut self) -> i32 {
        self.input.take();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap();
        ended.unwrap().code().unwrap()
    }
}

fn mcp(product: &Product) -> String {
    format!("{}/mcp", product.url)
}

#[tokio::test]
async fn both_eras_are_forwarded() {
    let product = Product::start(&[("API_KEYS", "sesame")]).await;
    let mut bridge = Bridge::start(&mcp(&product), Some("sesame"), &[]);
    let hello = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}
    });
    let hello = bridge.ask("2025-06-18", "initialize", hello).await;
    assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
    bridge
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await;
    let tools = bridge.ask("2025-06-18", "tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"][0]["name"], "run_graph");
    let found = bridge.ask(STATELESS, "server/discover", json!({})).await;
    assert_eq!(found["result"]["supportedVersions"][0], STATELESS);
    let unknown = bridge.ask(STATELESS, "prompts/list", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601);
    let mut params = json!({"name": "run_graph", "arguments": {"graph": graphs::slow(1.0, 10)}});
    params["_meta"]["progressToken"] = json!("p");
    bridge
        .send(&call(STATELESS, "tools/call", params).body)
        .await;
    let first = bridge.next().await;
    assert_eq!(first["method"], "notifications/progress");
    loop {
        let message = bridge.next().await;
        if message["id"] == 7 {
            assert_eq!(
                message["result"]["structuredContent"]["status"],
                "succeeded"
            );
            break;
        }
    }
    assert_eq!(bridge.end().await, 0);
}

#[tokio::test]
async fn a_cancelled_request_and_the_end_of_stdin_cancel_the_job() {
    let product = Product::start(&[]).await;
    let newest = async || {
        let jobs = structured(
            &product,
            "list_jobs",
            json!({"status": "running", "limit": 1}),
        )
        .await;
        jobs["jobs"][0]["id"].as_str().map(str::to_owned)
    };
    let long = json!({"name": "run_graph", "arguments": {"graph": graphs::slow(30.0, 600)}});
    let mut bridge = Bridge::start(&mcp(&product), None, &[]);
    bridge
        .send(&call(STATELESS, "tools/call", long.clone()).body)
        .await;
    let id = crate::support::product::until("it runs", newest).await;
    bridge
        .send(&json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 7}
        }))
        .await;
    until_status(&product, &id, "interrupted").await;
    bridge.send(&call(STATELESS, "tools/call", long).body).await;
    let id = crate::support::product::until("it runs", newest).await;
    assert_eq!(bridge.end().await, 0);
    until_status(&product, &id, "interrupted").await;
}

#[tokio::test]
async fn without_a_server_every_request_is_answered() {
    let port = crate::support::product::free_port();
    let mut bridge = Bridge::start(&format!("http://127.0.0.1:{port}/mcp"), None, &[]);
    let began = Instant::now();
    let answer = bridge.ask(STATELESS, "tools/list", json!({})).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("start it"),
        "{answer}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut product = Product::start(&[("PORT", &port.to_string()), ("API_KEYS", "sesame")]).await;
    let answer = bridge.ask(STATELESS, "tools/list", json!({})).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("COMFYUI_API_KEY"),
        "{answer}"
    );
    product.stop().await;
    let _open = Product::start(&[("PORT", &port.to_string())]).await;
    let answer = bridge.ask(STATELESS, "tools/list", json!({})).await;
    assert!(answer["result"]["tools"].is_array(), "{answer}");
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let workflow = json!({
        "summary": "Look",
        "input": {
            "type": "object",
            "properties": {"image": {"type": "string"}},
            "required": ["image"]
        },
        "bind": {"image": "1.inputs.image"},
        "prompt": graphs::loaded("x.png"),
    });
    let product = crate::support::product::Stage::new()
        .file("workflows/look.json", workflow.to_string())
        .start()
        .await;
    let files = tempfile::tempdir().unwrap();
    let inside = files.path().canonicalize().unwrap();
    let bytes = graphs::encoded([9, 8, 7], image::ImageFormat::Png);
    std::fs::write(inside.join("fox.png"), &bytes).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("owl.png"), &bytes).unwrap();
    std::os::unix::fs::symlink(outside.path().join("owl.png"), inside.join("link.png")).unwrap();
    let fox = inside.join("fox.png").display().to_string();

    let mut bridge = Bridge::start(&mcp(&product), None, &["--files", inside.to_str().unwrap()]);
    for given in [fox.clone(), format!("file://{fox}")] {
        let result = bridge.tool("look", json!({"image": given})).await;
        assert_eq!(
            result["structuredContent"]["status"], "succeeded",
            "{result}"
        );
        let result = bridge
            .tool("run_graph", json!({"graph": graphs::loaded(&given)}))
            .await;
        assert_eq!(
            result["structuredContent"]["status"], "succeeded",
            "{result}"
        );
    }
    for given in [
        outside.path().join("owl.png").display().to_string(),
        inside.join("link.png").display().to_string(),
        format!("file://{}/owl.png", outside.path().display()),
        format!(
            "{}/../{}/owl.png",
            inside.display(),
            outside.path().file_name().unwrap().to_str().unwrap()
        ),
    ] {
        let result = bridge.tool("look", json!({"image": given})).await;
        assert_eq!(result["isError"], true, "{result}");
        assert!(super::texts(&result).contains("--files"), "{result}");
    }
    let tools = bridge.ask(STATELESS, "tools/list", json!({})).await;
    let tools = tools["result"]["tools"].as_array().unwrap();
    assert_eq!(tools.last().unwrap()["name"], "save_output");
    let job = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::picture("out")}),
    )
    .await;
    let save = json!({"id": job["id"], "directory": inside});
    let mut paths = Vec::new();
    for _ in 0..2 {
        let saved = bridge.tool("save_output", save.clone()).await;
        let path = saved["structuredContent"]["paths"][0]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            std::fs::read(&path).unwrap().starts_with(b"\x89PNG"),
            "{saved}"
        );
        paths.push(path);
    }
    assert_ne!(paths[0], paths[1]);
    for wrong in [
        json!({"id": job["id"], "directory": outside.path()}),
        json!({"id": job["id"], "directory": inside, "index": 5}),
        json!({"id": "nope", "directory": inside}),
    ] {
        assert_eq!(bridge.tool("save_output", wrong).await["isError"], true);
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);

    let mut closed = Bridge::start(&mcp(&product), None, &[]);
    for given in [fox.clone(), format!("file://{fox}")] {
        let result = closed.tool("look", json!({"image": given})).await;
        assert!(
            result["isError"] == true && super::texts(&result).contains("--files"),
            "{result}"
        );
    }
    let tools = closed.ask(STATELESS, "tools/list", json!({})).await;
    let tools = tools["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().all(|tool| tool["name"] != "save_output"));
}

#[tokio::test]
async fn files_are_found_in_every_form_of_a_graph() {
    let product = Product::start(&[]).await;
    let files = tempfile::tempdir().unwrap();
    let inside = files.path().canonicalize().unwrap();
    let bytes = graphs::encoded([9, 8, 7], image::ImageFormat::Png);
    std::fs::write(inside.join("fox.png"), &bytes).unwrap();
    let fox = inside.join("fox.png").display().to_string();
    let mut bridge = Bridge::start(&mcp(&product), None, &["--files", inside.to_str().unwrap()]);
    let saved = json!({"version": 0.4, "nodes": [
        {"id": 1, "type": "LoadImage", "mode": 0, "inputs": [], "widgets_values": [fox, "image"],
            "outputs": [
                {"name": "IMAGE", "type": "IMAGE", "links": [1]},
                {"name": "MASK", "type": "MASK", "links": []}
            ]},
        {"id": 9, "type": "SaveImage", "mode": 0, "outputs": [], "widgets_values": ["saved"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
    ], "links": [[1, 1, 0, 9, 0, "IMAGE"]]});
    for graph in [
        json!(graphs::loaded(&fox).to_string()),
        json!(graphs::loaded(&format!("file://{fox}")).to_string()),
        json!({"prompt": graphs::loaded("fox.png")}),
        saved.clone(),
        json!(saved.to_string()),
    ] {
        let result = bridge.tool("run_graph", json!({"graph": graph})).await;
        assert_eq!(
            result["structuredContent"]["status"], "succeeded",
            "{graph}: {result}"
        );
    }
    let set = json!({"graph": graphs::loaded("x.png").to_string(), "set": {"1.inputs.image": fox}});
    let result = bridge.tool("run_graph", set).await;
    assert_eq!(
        result["structuredContent"]["status"], "succeeded",
        "{result}"
    );
    // What is no graph is refused by the server, in its own words.
    let result = bridge.tool("run_graph", json!({"graph": "{\"1\": "})).await;
    assert_eq!(result["isError"], true, "{result}");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("owl.png"), &bytes).unwrap();
    let owl = outside.path().join("owl.png").display().to_string();
    let graph = json!({"graph": graphs::loaded(&owl).to_string()});
    let result = bridge.tool("run_graph", graph).await;
    assert_eq!(result["isError"], true, "{result}");
    assert!(super::texts(&result).contains("--files"), "{result}");
}

#[tokio::test]
async fn all_files_of_a_job_are_saved() {
    const FILES: usize = 320;
    let product = Product::start(&[]).await;
    let files = tempfile::tempdir().unwrap();
    let inside = files.path().canonicalize().unwrap();
    let mut bridge = Bridge::start(&mcp(&product), None, &["--files", inside.to_str().unwrap()]);
    let mut graph = graphs::picture("many");
    graph["1"]["inputs"]["batch_size"] = FILES.into();
    let job = structured(&product, "run_graph", json!({"graph": graph})).await;
    assert_eq!(job["outputs"].as_array().unwrap().len(), 300);
    let saved = bridge
        .tool("save_output", json!({"id": job["id"], "directory": inside}))
        .await;
    let paths = saved["structuredContent"]["paths"].as_array().unwrap();
    assert_eq!(paths.len(), FILES, "{saved}");
    assert_eq!(std::fs::read_dir(&inside).unwrap().count(), FILES);
    let last = json!({"id": job["id"], "directory": inside, "index": FILES - 1});
    let saved = bridge.tool("save_output", last).await;
    let path = saved["structuredContent"]["paths"][0].as_str().unwrap();
    assert!(path.contains("00320"), "{path}");
    assert!(std::fs::read(path).unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    let mut bridge = Bridge::start(&url, None, &[]);
    let began = Instant::now();
    let answer = bridge.ask(STATELESS, "tools/list", json!({})).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert!(began.elapsed() < Duration::from_secs(10));
}
