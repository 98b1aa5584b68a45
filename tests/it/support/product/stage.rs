//! What is to be started, and how.

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter};
use std::path::PathBuf;
use std::process::Stdio;

use comfyui_api::simulator::Simulator;
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::locks::WITHOUT_LOCKS;
use super::log::Log;
use super::ports::{free_port, free_ports};
use super::{BINARY, PATIENCE, Product, behind, simulator};

/// What is to be started.
pub struct Stage {
    pub(super) home: TempDir,
    pub(super) env: BTreeMap<String, String>,
    pub(super) comfy_port: u16,
    pub(super) flags: String,
    pub(super) command: Option<String>,
    pub(super) descriptors: Option<u32>,
    pub(super) locks: bool,
    pub(super) arguments: Vec<String>,
    pub(super) unread: Option<PipeWriter>,
    pub(super) reader: Option<PipeReader>,
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
            start = Command::new(crate::support::peer_process::python());
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

    pub(super) async fn launch_alone(self) -> Product {
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
