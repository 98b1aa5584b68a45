//! Peers that are programs of their own: found, started on a free port, and ended with the test
//! binary, however that ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The virtualenv's Python (BRIEF: `$TEST_PYTHON`).
pub fn python() -> PathBuf {
    std::env::var_os("TEST_PYTHON").map_or_else(
        || "/opt/comfyui-api-test/venv/bin/python".into(),
        PathBuf::from,
    )
}

/// Where npm's packages are (`$TEST_NODE_MODULES`).
pub fn node_modules() -> PathBuf {
    std::env::var_os("TEST_NODE_MODULES").map_or_else(
        || "/opt/comfyui-api-test/node_modules".into(),
        PathBuf::from,
    )
}

/// A running peer.
pub struct PeerProcess {
    child: Child,
    /// Its base URL, as it said itself.
    pub url: String,
    _directory: tempfile::TempDir,
}

impl PeerProcess {
    /// Starts a program that prints `http://127.0.0.1:<port>` when it is ready. `install` says where it
    /// comes from.
    pub fn start(name: &str, install: &str, program: &Path, arguments: &[&str]) -> Self {
        assert!(
            program.exists() || !program.is_absolute(),
            "{name} is not installed: {} is missing; install {install}",
            program.display()
        );
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let out = std::fs::File::create(&log).unwrap();
        // The shell ends the peer when its standard input closes: that happens on drop, and when
        // the test binary dies.
        let mut peer = Self {
            child: Command::new("sh")
                .args([
                    "-c",
                    "\"$@\" </dev/null & peer=$!; cat >/dev/null; kill $peer",
                    "sh",
                ])
                .arg(program)
                .args(arguments)
                .current_dir(directory.path())
                .stdin(Stdio::piped())
                .stdout(out.try_clone().unwrap())
                .stderr(out)
                .spawn()
                .unwrap(),
            url: String::new(),
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(url) = url_in(&said) {
                peer.url = url;
                return peer;
            }
            assert!(
                Instant::now() < deadline,
                "{name} did not start ({install}); it said: {said}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn url_in(said: &str) -> Option<String> {
    let at = said.find("http://127.0.0.1:")?;
    let url: String = said[at..]
        .chars()
        .take_while(|c| !c.is_whitespace() && *c != '\u{1b}')
        .collect();
    // The line must be whole, or the port may be cut off.
    said[at + url.len()..]
        .contains('\n')
        .then(|| url.trim_end_matches('/').to_owned())
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
