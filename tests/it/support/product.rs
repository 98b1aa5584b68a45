//! The whole product as a process: the real binary with the built-in ComfyUI as its child, in
//! directories of its own.

mod behind;

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use comfyui_api::simulator::{Args, Simulator};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Nothing here takes so long; it only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a program for which the kernel refuses every lock on a file, as file systems without them
/// do (ENOLCK for `flock`).
const WITHOUT_LOCKS: &str = r#"
import ctypes, os, platform, struct, sys
flock = {"x86_64": 73, "aarch64": 32}[platform.machine()]
ops = [(0x20, 0, 0, 0), (0x15, 0, 1, flock), (0x06, 0, 0, 0x00050000 | 37), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in ops))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(ops), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Why file locks cannot be taken from a program here, if so.
pub fn why_locks_stay() -> Option<String> {
    let probe = std::process::Command::new(super::peer_process::python())
        .args(["-c", WITHOUT_LOCKS, "/bin/true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&probe.stderr).into_owned();
    (!probe.status.success()).then_some(said)
}

/// The binary under test, which is the simulator too.
pub const BINARY: &str = env!("CARGO_BIN_EXE_comfyui-api");

/// A port that was free a moment ago, outside the range from which the system hands out ports by
/// itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 10_000).unwrap();
    for _ in 0..5_000 {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// The first of so many free ports in a row.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 7_000).unwrap();
    for _ in 0..2_000 {
        let port = 12_000 + (offset + NEXT.fetch_add(count, Ordering::Relaxed)) % 7_500;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (port..port + count).all(free) {
            return port;
        }
    }
    panic!("no {count} free ports in a row between 12000 and 20000");
}

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

/// What is to be started.
pub struct Stage {
    home: TempDir,
    env: BTreeMap<String, String>,
    comfy_port: u16,
    flags: String,
    command: Option<String>,
    descriptors: Option<u32>,
    locks: bool,
    arguments: Vec<String>,
    unread: Option<PipeWriter>,
    reader: Option<PipeReader>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// The usual: quick start-up checks, no outside services, everything in one temporary
    /// directory.
    pub fn new() -> Self {
        let home = TempDir::new().unwrap();
        for folder in ["input", "output", "models", "workflows", "tmp"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        let at = |name: &str| home.path().join(name).display().to_string();
        let mut env: BTreeMap<String, String> = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("STARTUP_CHECK_INTERVAL_S", "0.1"),
            ("STARTUP_CHECK_MAX_TRIES", "300"),
            ("NO_PROXY", "127.0.0.1,localhost"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        env.insert("PATH".to_owned(), std::env::var("PATH").unwrap_or_default());
        env.extend(
            [
                ("HOME", ""),
                ("COMFY_HOME", ""),
                ("CACHE_DIR", "cache"),
                ("WORKFLOW_DIR", "workflows"),
                ("TMPDIR", "tmp"),
            ]
            .map(|(k, v)| (k.to_owned(), at(v))),
        );
        Self {
            home,
            env,
            comfy_port: free_port(),
            flags: String::new(),
            command: None,
            descriptors: None,
            locks: true,
            arguments: Vec::new(),
            unread: None,
            reader: None,
        }
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets several.
    pub fn envs(self, variables: &[(&str, &str)]) -> Self {
        variables
            .iter()
            .fold(self, |stage, (name, value)| stage.env(name, value))
    }

    /// The variables that are set, for another command with the same ones.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.env.clone().into_iter().collect()
    }

    /// Adds flags of the simulator, as a shell would read them.
    pub fn flags(mut self, flags: &str) -> Self {
        self.flags = format!("{} {flags}", self.flags);
        self
    }

    /// Starts the simulator with faults.
    pub fn faults(self, faults: &Value) -> Self {
        self.flags(&format!("--faults '{faults}'"))
    }

    /// So many files and sockets at once, at most.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// No file can be locked; see [`why_locks_stay`].
    pub fn without_locks(mut self) -> Self {
        self.locks = false;
        self
    }

    /// Another `CMD` than the simulator.
    pub fn command(mut self, command: &str) -> Self {
        self.command = Some(command.to_owned());
        self
    }

    /// So many ComfyUI, on ports in a row.
    pub fn instances(mut self, count: u16) -> Self {
        self.comfy_port = free_ports(count);
        self.env("COMFYUI_INSTANCES", count)
    }

    /// The port on which ComfyUI is to listen.
    pub const fn comfy_port(&self) -> u16 {
        self.comfy_port
    }

    /// A path in the directory that is `COMFY_HOME`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file there before the start.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// A simulator in this process, in this stage's directories and on its port, for a product that
    /// attaches.
    pub async fn simulator(&self) -> Simulator {
        simulator(self.home.path(), self.comfy_port, &self.flags).await
    }

    /// A sub-command of the binary, instead of serving with a ComfyUI.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Attach mode: `CMD` is empty.
    pub fn attached(self) -> Self {
        self.command("")
    }

    /// Its standard output is a pipe of 4 KiB that nobody reads.
    pub fn unread(mut self) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        (self.reader, self.unread) = (Some(reader), Some(writer));
        self
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(self) -> Product {
        let simulated = || {
            format!(
                "{BINARY} simulate-comfyui --port {} --base-directory '{}' {}",
                self.comfy_port,
                self.home.path().display(),
                self.flags
            )
        };
        let command = self.command.clone().unwrap_or_else(simulated);
        let mut start = Command::new(BINARY);
        if let Some(most) = self.descriptors {
            start = Command::new("/bin/sh");
            let script = format!(
                "ulimit -Sn {most} && ulimit -Hn {most} && exec '{BINARY}' {}",
                self.arguments.join(" ")
            );
            start.args(["-c", &script]);
        }
        if !self.locks {
            start = Command::new(super::peer_process::python());
            start.args(["-c", WITHOUT_LOCKS, BINARY]);
        }
        let mut child = start
            .args(&self.arguments)
            .env_clear()
            .env("CMD", command)
            .env("COMFYUI_PORT_HOST", self.comfy_port.to_string())
            .envs(&self.env)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(self.unread.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Log::default();
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        log.follow(child.stderr.take().unwrap());
        comfyui_api::net::install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE * 2)
            .build()
            .unwrap();
        Product {
            url: String::new(),
            http,
            comfy_port: self.comfy_port,
            flags: self.flags,
            pid: child.id().unwrap(),
            log,
            child,
            home: self.home,
            behind: Vec::new(),
            _reader: self.reader,
        }
    }

    /// Starts the process and waits until it listens, not until it is ready.
    pub async fn launch(self) -> Product {
        if behind::is_wanted() && self.arguments.is_empty() {
            return Box::pin(behind::launch(self)).await;
        }
        self.launch_alone().await
    }

    async fn launch_alone(self) -> Product {
        let mut product = self.spawn();
        let line = product.log.line("\"listening\"").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        product.url = format!("http://{}", line["address"].as_str().unwrap());
        product
    }

    /// Starts a process that does not log where it listens, and waits until it is ready.
    pub async fn launch_silent(self) -> Product {
        let port = free_port();
        let mut product = self.env("PORT", port).spawn();
        product.url = format!("http://127.0.0.1:{port}");
        product.until_ready().await;
        product
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(self) -> Product {
        let product = self.launch().await;
        product.until_ready().await;
        product.until_behind_is_ready().await;
        product
    }
}

async fn simulator(home: &Path, port: u16, flags: &str) -> Simulator {
    comfyui_api::net::install_crypto();
    let mut args = Args::from_words(shell_words::split(flags).unwrap()).unwrap();
    args.base_directory = Some(home.to_path_buf());
    args.port = Some(port);
    Simulator::start(args).await.unwrap()
}

/// Everything the process and its child have printed.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.lines.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = stream.next_segment().await {
                lines
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The whole text so far.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// How many lines hold a text.
    pub fn count(&self, part: &str) -> usize {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    /// Waits for a line that holds a text.
    pub async fn line(&self, part: &str) -> String {
        self.nth_line(part, 0).await
    }

    /// Waits for one more line with a text than there were.
    pub async fn nth_line(&self, part: &str, before: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self
                .lines
                .lock()
                .unwrap()
                .iter()
                .filter(|line| line.contains(part))
                .nth(before)
            {
                return line.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no line with {part:?} in:\n{}",
                self.text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
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
    home: TempDir,
    /// Who does the work, where it is a gateway.
    behind: Vec<behind::Instance>,
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
