//! The simulator as a process: signals, exit codes, standard error.

use super::*;

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
        command
            .args(["simulate-comfyui", "--port", "0", "--base-directory"])
            .arg(base.path())
            .args(flags);
        let mut process = command
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut errors = tokio::io::BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = async {
            let mut lines = Vec::new();
            while let Some(line) = errors.next_line().await.unwrap() {
                if let Some(port) = line.strip_prefix("To see the GUI go to: http://127.0.0.1:") {
                    assert!(
                        lines.iter().any(|line| line == "Starting server"),
                        "{lines:?}"
                    );
                    return port.parse().unwrap();
                }
                lines.push(line);
            }
            panic!("the simulator ended before it listened: {lines:?}");
        };
        let port = tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("not ready in time");
        Self {
            process,
            port,
            errors,
            base,
        }
    }

    async fn submit(&self, graph: &Value) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/prompt", self.port);
        let answer = http
            .post(url)
            .body(json!({"prompt": graph}).to_string())
            .send()
            .await;
        // A graph that crashes the process may do so before the answer is out.
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 200);
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .expect("it did not end")
            .unwrap()
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
    let second = tokio::time::timeout(PATIENCE, second)
        .await
        .unwrap()
        .unwrap();
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
