//! The whole product as a process: the real binary with the built-in ComfyUI as its child, in
//! directories of its own.

mod behind;
mod locks;
mod log;
mod ports;
mod stage;

use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use comfyui_api::simulator::{Args, Simulator};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

pub use behind::is_wanted as is_behind;
pub use locks::why_locks_stay;
pub use log::Log;
pub use ports::{free_port, free_ports};
pub use stage::Stage;

/// Nothing here takes so long; it only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The binary under test, which is the simulator too.
pub const BINARY: &str = env!("CARGO_BIN_EXE_comfyui-api");

/// Asks again and again until there is an answer; fails the test when there is none in time.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn simulator(home: &Path, port: u16, flags: &str) -> Simulator {
    comfyui_api::net::install_crypto();
    let mut args = Args::from_words(shell_words::split(flags).unwrap()).unwrap();
    args.base_directory = Some(home.to_path_buf());
    args.port = Some(port);
    Simulator::start(args).await.unwrap()
}

/// A running product. It and its ComfyUI end with it.
pub struct Product {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    /// Goes through no proxy.
    pub http: reqwest::Client,
    /// Where its ComfyUI listens.
    pub comfy_port: u16,
    /// What it prints.
    pub log: Log,
    flags: String,
    pid: u32,
    child: Child,
    /// Who does the work, where it is a gateway. Before the folder in which they work: one that
    /// still lives would say that an output is missing.
    behind: Vec<behind::Instance>,
    home: TempDir,
    /// Held open, but not read.
    _reader: Option<PipeReader>,
}

impl Product {
    /// The real binary with a simulator of its own, ready.
    pub async fn start(env: &[(&str, &str)]) -> Self {
        Stage::new().envs(env).start().await
    }

    /// A path in `COMFY_HOME`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Another in-process simulator in the same directories and on the same port, for attach mode.
    pub async fn simulator(&self) -> Simulator {
        simulator(self.home.path(), self.comfy_port, &self.flags).await
    }

    /// Waits until `/ready` says 200.
    pub async fn until_ready(&self) {
        self.until_status("/ready", 200).await;
    }

    /// Waits until a path answers with a status.
    pub async fn until_status(&self, path: &str, status: u16) {
        until(
            &format!("{path} answers {status}\n{}", self.log.text()),
            async || {
                let response = self
                    .http
                    .get(format!("{}{path}", self.url))
                    .send()
                    .await
                    .ok()?;
                (response.status().as_u16() == status).then_some(())
            },
        )
        .await;
    }

    /// A request to the product: status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.http.delete(format!("{}{path}", self.url))).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// `POST /prompt` of a whole body.
    pub async fn prompt(&self, body: &Value) -> (u16, Value) {
        self.post("/prompt", body).await
    }

    /// `POST /prompt` of a graph under an id; it must succeed.
    pub async fn run(&self, id: &str, graph: &Value) -> Value {
        let (status, body) = self.prompt(&json!({"id": id, "prompt": graph})).await;
        assert_eq!(status, 200, "{id}: {body}\n{}", self.log.text());
        body
    }

    /// `POST /prompt` in the background.
    pub fn prompt_later(&self, body: Value) -> tokio::task::JoinHandle<(u16, Value)> {
        let request = self.http.post(format!("{}/prompt", self.url)).json(&body);
        tokio::spawn(answer(request))
    }

    /// Waits until `GET /prompt/{id}` shows a status.
    pub async fn until_prompt(&self, id: &str, status: &str) -> Value {
        until(&format!("prompt {id} is {status}"), async || {
            let (_, entry) = self.get(&format!("/prompt/{id}")).await;
            (entry["status"] == status).then_some(entry)
        })
        .await
    }

    /// A request to its ComfyUI, past the product.
    pub async fn comfy(&self, path: &str) -> Value {
        let (status, body) = answer(
            self.http
                .get(format!("http://127.0.0.1:{}{path}", self.comfy_port)),
        )
        .await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A request to one of several ComfyUI, past the product.
    pub async fn comfy_of(&self, index: u16, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.comfy_port + index);
        let (status, body) = answer(self.http.get(url)).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Where a ComfyUI listens: one, or those of the instances behind a gateway.
    fn comfy_ports(&self) -> Vec<u16> {
        let mut ports = vec![self.comfy_port];
        ports.extend(self.behind.iter().map(|instance| instance.comfy_port));
        ports.dedup();
        ports
    }

    /// Changes the faults of the simulator.
    pub async fn faults(&self, faults: Value) {
        for port in self.comfy_ports() {
            let url = format!("http://127.0.0.1:{port}/simulator/faults");
            let response = self.http.post(url).json(&faults).send().await;
            // A crash takes the answer with it.
            if faults.get("crash").is_none() {
                let response = response.unwrap();
                assert_eq!(response.status(), 200, "{:?}", response.text().await);
            }
        }
    }

    /// Files and links in the output directory, and everything in the input directory, relative to
    /// `COMFY_HOME`.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path("input"), true, &mut found);
        walk(&self.path("output"), false, &mut found);
        let mut found: Vec<String> = found
            .iter()
            .map(|path| {
                path.strip_prefix(self.home.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        found.sort();
        found
    }

    /// Waits until nothing is left in the input and output directories, and no entry in ComfyUI's
    /// history.
    pub async fn until_clean(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let files = self.leftovers();
            let mut history = Vec::new();
            for port in self.comfy_ports() {
                let url = format!("http://127.0.0.1:{port}/history");
                history.push(answer(self.http.get(url)).await.1);
            }
            if files.is_empty() && history.iter().all(|one| *one == json!({})) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {files:?} {history:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid.try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the process did not end in time:\n{}", self.log.text()),
        }
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.ended().await.code()
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.log.lines();
            eprintln!(
                "--- the last lines of the product:\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
            for instance in &self.behind {
                let lines = instance.log.lines();
                eprintln!(
                    "--- the last lines of an instance:\n{}",
                    lines[lines.len().saturating_sub(30)..].join("\n")
                );
            }
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

fn walk(directory: &Path, with_directories: bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            walk(&entry.path(), with_directories, found);
        }
        if !is_directory || with_directories {
            found.push(entry.path());
        }
    }
}
