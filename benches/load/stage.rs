//! What runs: the product, and the simulator that is driven directly.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::http::Http;
use super::{PATIENCE, TICKS};

pub(super) struct Stage {
    pub(super) binary: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) simulator: Process,
    pub(super) api: Process,
    pub(super) first_answer: Duration,
}

pub(super) struct Process {
    pub(super) child: Child,
    pub(super) port: u16,
}

impl Stage {
    pub(super) fn start() -> Self {
        let binary = std::env::var("BINARY")
            .ok()
            .or_else(|| option_env!("CARGO_BIN_EXE_comfyui-api").map(str::to_owned));
        let binary = fs::canonicalize(binary.expect("BINARY must name the program to measure"))
            .expect("BINARY names no file");
        let dir = std::env::temp_dir().join(format!("comfyui-api-load-{}", std::process::id()));
        for sub in ["models/checkpoints", "input", "output", "cache"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(
            dir.join("models/checkpoints/demo.safetensors"),
            b"\x02\0\0\0\0\0\0\0{}",
        )
        .unwrap();
        let (simulator_port, api_port) = (free_port(), free_port());
        let mut command = Command::new(&binary);
        command
            .args([
                "simulate-comfyui",
                "--port",
                &simulator_port.to_string(),
                "--base-directory",
            ])
            .arg(&dir);
        let simulator = Process::start(&mut command, simulator_port, &dir);
        simulator.wait_for("/queue");
        let began = Instant::now();
        let mut command = Command::new(&binary);
        command
            .env_clear()
            .envs([("CMD", ""), ("LOG_LEVEL", "warn"), ("HOST", "127.0.0.1")])
            .env("PORT", api_port.to_string())
            .env("COMFYUI_PORT_HOST", simulator_port.to_string())
            .env("COMFY_HOME", &dir)
            .env("CACHE_DIR", dir.join("cache"));
        let api = Process::start(&mut command, api_port, &dir);
        api.first_answer("/health");
        let first_answer = began.elapsed();
        api.wait_for("/ready");
        Self {
            binary,
            dir,
            simulator,
            api,
            first_answer,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in [&mut self.api, &mut self.simulator] {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Process {
    pub(super) fn start(command: &mut Command, port: u16, dir: &Path) -> Self {
        let log = fs::File::create(dir.join(format!("{port}.log"))).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// Waits until any answer comes.
    fn first_answer(&self, path: &str) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                return Http::over(stream).send("GET", path, "").0;
            }
            assert!(
                Instant::now() < deadline,
                "nobody listens on port {}",
                self.port
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub(super) fn wait_for(&self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.first_answer(path) != 200 {
            assert!(
                Instant::now() < deadline,
                "{path} on port {} does not become 200",
                self.port
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processor time used so far, seconds.
    pub(super) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
    }

    /// A line of /proc/<pid>/status, MiB.
    pub(super) fn memory(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
