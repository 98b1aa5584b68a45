//! The manifest: real git repositories over HTTP, stand-ins for the tools that would change this
//! machine.

mod clones;
mod failures;
mod installing;
mod models;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use comfyui_api::config::Config;
use comfyui_api::events::Events;
use comfyui_api::manifest::{Installer, Manifest, ManifestError};
use comfyui_api::net::{Outbound, install_crypto};
use comfyui_api::storage::Storage;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A machine to install on: its own COMFY_HOME, its own PATH with stand-ins that write down how
/// they were called.
struct Machine {
    folder: TempDir,
    extra: Vec<(&'static str, String)>,
}

impl Machine {
    fn new(tools: &[&str]) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
            extra: Vec::new(),
        };
        for folder in ["comfy/custom_nodes", "cache", "bin", "real"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        // No other tool of this machine may be found.
        let git = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join("git"))
            .find(|file| file.exists());
        std::os::unix::fs::symlink(git.expect("these tests need git"), machine.path("real/git"))
            .unwrap();
        for tool in tools {
            machine.tool(tool, "");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A stand-in that notes its arguments and folder, then runs more lines of shell.
    fn tool(&self, name: &str, more: &str) {
        let log = self.path("calls");
        let text = format!(
            "#!/bin/sh\necho \"{name} $*\" >> '{}'\necho \"{name} says hello\"\n{more}\n",
            log.display()
        );
        fs::write(self.path("bin").join(name), text).unwrap();
        fs::set_permissions(
            self.path("bin").join(name),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        text.lines().map(str::to_owned).collect()
    }

    fn node(&self, name: &str) -> PathBuf {
        self.path("comfy/custom_nodes").join(name)
    }

    fn config(&self) -> Config {
        let path = std::env::join_paths([self.path("bin"), self.path("real")])
            .unwrap()
            .into_string()
            .unwrap();
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), path),
            (
                "COMFY_HOME".to_owned(),
                self.path("comfy").display().to_string(),
            ),
            (
                "CACHE_DIR".to_owned(),
                self.path("cache").display().to_string(),
            ),
        ]);
        env.extend(
            self.extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        Config::from_env(&env).unwrap()
    }

    async fn installer(&self) -> Installer {
        install_crypto();
        let config = self.config();
        let outbound = Outbound::new(&config.storage).unwrap();
        let storage = Storage::new(&config.storage, outbound, Events::default());
        storage.prepare().await.unwrap();
        Installer::new(
            &config.manifest,
            &config.comfy.home,
            &config.storage.cache.dir,
            storage,
        )
    }

    async fn start(&self, yaml: &str) -> Result<(), ManifestError> {
        let manifest = Manifest::from_yaml("MANIFEST", yaml).unwrap();
        let run = async {
            self.installer()
                .await
                .install_before_start(&manifest, &CancellationToken::new())
                .await
        };
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .expect("the installation hangs")
    }
}

/// A server of static files; git can clone from it when `git update-server-info` was run. Notes
/// what was asked for.
struct Server {
    root: TempDir,
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (root.path().to_owned(), asked.clone());
        let answer = move |request: Request| {
            let (folder, log) = (folder.clone(), log.clone());
            async move {
                let path = request.uri().path().trim_start_matches('/').to_owned();
                log.lock().unwrap().push(path.clone());
                tokio::fs::read(folder.join(path))
                    .await
                    .map_err(|_| StatusCode::NOT_FOUND)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(answer))
                .await
                .unwrap()
        });
        Self {
            root,
            origin,
            asked,
            task,
        }
    }

    fn requests(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A repository that a [`Server`] offers as `/<name>.git`.
struct Repository {
    work: PathBuf,
    bare: PathBuf,
}

impl Repository {
    fn new(server: &Server, name: &str) -> Self {
        let repository = Self {
            work: server.root.path().join(format!("{name}.work")),
            bare: server.root.path().join(format!("{name}.git")),
        };
        run(
            server.root.path(),
            &[
                "init",
                "-q",
                "--bare",
                "-b",
                "main",
                repository.bare.to_str().unwrap(),
            ],
        );
        run(
            server.root.path(),
            &[
                "init",
                "-q",
                "-b",
                "main",
                repository.work.to_str().unwrap(),
            ],
        );
        repository.commit("first");
        repository
    }

    /// A commit whose file `version` holds the text; returns its hash.
    fn commit(&self, text: &str) -> String {
        fs::write(self.work.join("version"), text).unwrap();
        run(&self.work, &["add", "-A"]);
        run(
            &self.work,
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "commit",
                "-qm",
                text,
            ],
        );
        self.publish();
        run(&self.work, &["rev-parse", "HEAD"])
    }

    fn git(&self, arguments: &[&str]) {
        run(&self.work, arguments);
        self.publish();
    }

    fn publish(&self) {
        run(
            &self.work,
            &[
                "push",
                "-q",
                "--force",
                "--tags",
                self.bare.to_str().unwrap(),
                "refs/heads/*",
            ],
        );
        run(&self.bare, &["update-server-info"]);
    }
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn version(folder: &Path) -> String {
    fs::read_to_string(folder.join("version")).unwrap()
}
