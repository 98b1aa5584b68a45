//! The manifest: real git repositories over HTTP, stand-ins for the tools that would change this
//! machine.

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
use comfyui_api::config::{Config, ManifestConfig};
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

#[tokio::test]
async fn everything_is_installed_in_order_and_a_second_start_does_nothing() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    fs::write(repository.work.join("requirements.txt"), "numpy\n").unwrap();
    repository.commit("with requirements");
    let machine = Machine::new(&["apt-get", "uv", "comfy"]);
    let yaml = format!(
        "apt: [ffmpeg, libgl1]\npip: ['numpy==1.0', scipy]\ncustom_nodes: [some-node, \
         '{}/node.git']\n",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        [
            "apt-get update",
            "apt-get install -y ffmpeg libgl1",
            "uv pip install --system numpy==1.0 scipy",
            "comfy node install some-node --fast-deps --exit-on-fail",
            "uv pip install --system -r requirements.txt",
        ]
    );
    assert_eq!(version(&machine.node("node")), "with requirements");
    assert!(server.requests() > 0);

    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        Vec::<String>::new(),
        "nothing is installed again"
    );
    assert!(
        server.requests() < 6,
        "only asked whether the branch has moved"
    );

    // What changed, and only that, is done.
    machine
        .start(&yaml.replace("scipy", "pillow"))
        .await
        .unwrap();
    assert_eq!(
        machine.calls(),
        ["uv pip install --system numpy==1.0 pillow"]
    );
    fs::write(repository.work.join("requirements.txt"), "numpy\ntorch\n").unwrap();
    repository.commit("more");
    machine
        .start(&yaml.replace("scipy", "pillow"))
        .await
        .unwrap();
    assert_eq!(
        machine.calls(),
        ["uv pip install --system -r requirements.txt"]
    );
    assert_eq!(version(&machine.node("node")), "more");
}

#[tokio::test]
async fn an_earlier_list_is_installed_again_after_a_later_one() {
    let server = Server::start().await;
    let (repository, other) = (
        Repository::new(&server, "node"),
        Repository::new(&server, "other"),
    );
    fs::write(other.work.join("requirements.txt"), "pillow\n").unwrap();
    other.commit("with requirements");
    let machine = Machine::new(&["apt-get", "uv"]);
    for (start, release) in ["1", "2", "1"].into_iter().enumerate() {
        fs::write(
            repository.work.join("requirements.txt"),
            format!("scipy=={release}\n"),
        )
        .unwrap();
        repository.commit(release);
        let yaml = format!(
            "apt: ['ffmpeg={release}']\npip: ['numpy=={release}']\ncustom_nodes: \
             ['{0}/other.git', '{0}/node.git']\n",
            server.origin
        );
        machine.start(&yaml).await.unwrap();
        let mut expected = vec![
            "apt-get update".to_owned(),
            format!("apt-get install -y ffmpeg={release}"),
            format!("uv pip install --system numpy=={release}"),
        ];
        // Those of the other node never change.
        expected.extend(std::iter::repeat_n(
            "uv pip install --system -r requirements.txt".to_owned(),
            if start == 0 { 2 } else { 1 },
        ));
        assert_eq!(machine.calls(), expected, "start {start}");
        machine.start(&yaml).await.unwrap();
        assert_eq!(
            machine.calls(),
            Vec::<String>::new(),
            "nothing is installed again"
        );
    }
}

#[tokio::test]
async fn a_lost_package_a_lost_node_and_a_lost_clone_are_installed_again() {
    let server = Server::start().await;
    Repository::new(&server, "cloned");
    let mut machine = Machine::new(&["uv"]);
    let packages = machine.path("venv/lib/python3.12/site-packages");
    fs::create_dir_all(&packages).unwrap();
    machine
        .extra
        .push(("VIRTUAL_ENV", machine.path("venv").display().to_string()));
    machine.tool(
        "uv",
        &format!("/bin/mkdir -p '{}/thing-1.0.dist-info'", packages.display()),
    );
    machine.tool(
        "comfy",
        &format!("/bin/mkdir -p '{}'", machine.node("Registered").display()),
    );
    let yaml = format!(
        "pip: [thing]\ncustom_nodes: [registered, '{}/cloned.git']\n",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        [
            "uv pip install thing",
            "comfy node install registered --fast-deps --exit-on-fail"
        ],
        "no --system in a virtual environment"
    );
    machine.start(&yaml).await.unwrap();
    assert!(machine.calls().is_empty());

    fs::remove_dir(machine.node("Registered")).unwrap();
    fs::remove_dir_all(machine.node("cloned")).unwrap();
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        ["comfy node install registered --fast-deps --exit-on-fail"]
    );
    assert_eq!(version(&machine.node("cloned")), "first");

    // As in a new container with an old volume.
    fs::remove_dir_all(&packages).unwrap();
    machine.start(&yaml).await.unwrap();
    assert_eq!(machine.calls().len(), 2);
}

#[tokio::test]
async fn pip_stands_in_for_uv() {
    let machine = Machine::new(&["pip"]);
    machine.start("pip: [numpy]").await.unwrap();
    assert_eq!(machine.calls(), ["pip install numpy"]);
}

#[tokio::test]
async fn every_pinned_ref_is_checked_out_and_pinned_clones_ask_nobody_again() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    let first = run(&repository.work, &["rev-parse", "HEAD"]);
    repository.git(&["tag", "v1"]);
    repository.git(&["checkout", "-q", "-b", "feature/deep"]);
    repository.commit("feature");
    repository.git(&["checkout", "-q", "main"]);
    repository.commit("newest");
    for (suffix, expected, asks_again) in [
        ("", "newest", true),
        ("@v1", "first", false),
        ("@feature/deep", "feature", true),
        ("/tree/feature/deep", "feature", true),
        ("/tree/feature/deep/some/folder", "feature", true),
        ("/-/tree/main", "newest", true),
        ("/src/v1/README.md", "first", false),
        ("/releases/tag/v1", "first", false),
        (&format!("/commit/{first}"), "first", false),
        (&format!("/-/commit/{first}"), "first", false),
        (&format!("/commits/{}", &first[..10]), "first", false),
        (&format!("@{first}"), "first", false),
    ] {
        let machine = Machine::new(&[]);
        let yaml = format!("custom_nodes: ['{}/node.git{suffix}']", server.origin);
        machine
            .start(&yaml)
            .await
            .unwrap_or_else(|error| panic!("{suffix}: {error}"));
        assert_eq!(version(&machine.node("node")), expected, "{suffix}");
        server.requests();
        machine.start(&yaml).await.unwrap();
        assert_eq!(server.requests() > 0, asks_again, "{suffix}");
        assert_eq!(version(&machine.node("node")), expected, "{suffix}");
    }
}

#[tokio::test]
async fn an_existing_clone_follows_the_manifest() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    repository.git(&["tag", "v1"]);
    let machine = Machine::new(&[]);
    let plain = format!("custom_nodes: ['{}/node.git']", server.origin);
    let pinned = format!("custom_nodes: ['{}/node.git@v1']", server.origin);
    machine.start(&plain).await.unwrap();
    repository.commit("second");
    machine.start(&plain).await.unwrap();
    assert_eq!(
        version(&machine.node("node")),
        "second",
        "a branch is followed"
    );
    assert_eq!(
        run(&machine.node("node"), &["symbolic-ref", "--short", "HEAD"]),
        "main",
        "and stays checked out"
    );
    machine.start(&pinned).await.unwrap();
    assert_eq!(version(&machine.node("node")), "first");
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "second");
    // History was rewritten.
    repository.git(&["reset", "-q", "--hard", "v1"]);
    repository.commit("rewritten");
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "rewritten");
    // The server is gone: what worked yesterday starts today, what is new does not.
    drop(server);
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "rewritten");
    assert!(machine.start(&pinned.replace("v1", "v2")).await.is_err());
}

#[tokio::test]
async fn failures_name_the_step_and_show_the_last_lines_but_no_credentials() {
    let server = Server::start().await;
    Repository::new(&server, "node");
    let origin = server.origin.replace("http://", "http://me:marked-secret@");

    let machine = Machine::new(&["apt-get", "pip"]);
    machine.tool(
        "apt-get",
        "[ \"$1\" = update ] && exit 0; echo 'E: Unable to locate package nonsense' >&2; exit 100",
    );
    let error = machine.start("apt: [nonsense]").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("apt-get install failed with exit code 100"),
        "{error}"
    );
    assert!(
        error
            .last_lines
            .contains(&"E: Unable to locate package nonsense".to_owned()),
        "{error}"
    );

    machine.tool("pip", "echo \"cannot install $*\"; exit 1");
    let error = machine
        .start("pip: ['git+https://u:marked-secret@h.example/x.git?token=marked-secret']")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pip")
            && error.contains("https://h.example/x.git")
            && !error.contains("marked-secret"),
        "{error}"
    );

    let error = machine
        .start(&format!("custom_nodes: ['{origin}/absent.git']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("absent.git")
            && error.contains("failed")
            && !error.contains("marked-secret"),
        "{error}"
    );
    assert!(
        !machine.node("absent").exists() && !machine.node(".absent.partial").exists(),
        "nothing half is left"
    );

    let error = machine
        .start(&format!("custom_nodes: ['{origin}/node.git@v9']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no branch, tag or commit v9") && !error.contains("marked-secret"),
        "{error}"
    );
    assert!(!machine.node("node").exists());

    let error = machine
        .start("custom_nodes: [by-name]")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("by-name") && error.contains("comfy"),
        "{error}"
    );

    fs::create_dir(machine.node("node")).unwrap();
    fs::write(machine.node("node").join("mine"), "x").unwrap();
    let error = machine
        .start(&format!("custom_nodes: ['{origin}/node.git']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a git clone"), "{error}");
    assert!(machine.node("node").join("mine").exists());

    let bare = Machine::new(&[]);
    assert!(
        bare.start("pip: [x]")
            .await
            .unwrap_err()
            .to_string()
            .contains("uv or pip")
    );
    assert!(
        bare.start("apt: [x]")
            .await
            .unwrap_err()
            .to_string()
            .contains("apt-get")
    );
}

#[tokio::test]
async fn a_stop_kills_the_running_command() {
    let machine = Machine::new(&[]);
    machine.tool(
        "pip",
        &format!(
            "echo $$ > '{}'; /bin/sleep 1000",
            machine.path("pid").display()
        ),
    );
    let manifest = Manifest::from_yaml("MANIFEST", "pip: [slow]").unwrap();
    let (installer, cancel) = (machine.installer().await, CancellationToken::new());
    let stop = async {
        while fs::read_to_string(machine.path("pid")).map_or(true, |text| text.trim().is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(installer.install_before_start(&manifest, &cancel), stop)
    })
    .await
    .unwrap();
    assert!(result.unwrap_err().to_string().contains("interrupted"));
    let pid = fs::read_to_string(machine.path("pid")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z"))
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the command still runs"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn models_before_start_must_come_and_a_second_start_downloads_nothing() {
    let server = Server::start().await;
    fs::write(server.root.path().join("a.bin"), "model a").unwrap();
    let mut machine = Machine::new(&[]);
    machine
        .extra
        .push(("HTTP_TRUSTED_ORIGINS", server.origin.clone()));
    let absolute = machine.path("elsewhere/b.bin");
    let yaml = format!(
        "models:\n  before_start:\n    - {{url: '{0}/a.bin', local_path: \
         models/checkpoints/a.bin}}\n    - {{url: '{0}/a.bin?x=1', local_path: '{1}'}}\n",
        server.origin,
        absolute.display()
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        fs::read_to_string(machine.path("comfy/models/checkpoints/a.bin")).unwrap(),
        "model a"
    );
    assert_eq!(fs::read_to_string(&absolute).unwrap(), "model a");
    server.requests();
    machine.start(&yaml).await.unwrap();
    assert_eq!(server.requests(), 0);

    let absent = format!(
        "models:\n  before_start:\n    - {{url: '{}/absent.bin?token=marked-secret', local_path: \
         models/c.bin}}\n",
        server.origin
    );
    let error = machine.start(&absent).await.unwrap_err().to_string();
    assert!(
        error.contains("absent.bin") && !error.contains("marked-secret"),
        "{error}"
    );
}

#[tokio::test]
async fn models_after_start_come_in_the_background_and_are_tried_again() {
    let server = Server::start().await;
    let mut machine = Machine::new(&[]);
    machine
        .extra
        .push(("HTTP_TRUSTED_ORIGINS", server.origin.clone()));
    let yaml = format!(
        "models: {{after_start: [{{url: '{}/late.bin', local_path: models/late.bin}}]}}",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    let manifest = Manifest::from_yaml("MANIFEST", &yaml).unwrap();
    let task = machine
        .installer()
        .await
        .start_models_after(&manifest, &CancellationToken::new());
    // The first try fails, because the file only comes after it.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while server.asked.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "never asked for");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::write(server.root.path().join("late.bin"), "late").unwrap();
    tokio::time::timeout(Duration::from_secs(30), task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        fs::read_to_string(machine.path("comfy/models/late.bin")).unwrap(),
        "late"
    );
}

#[tokio::test]
async fn the_variable_wins_over_the_file_and_both_are_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yml");
    fs::write(&file, "pip: [from-file]\n").unwrap();
    let load = |pairs: &[(&str, &str)]| {
        let env: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let config: ManifestConfig = Config::from_env(&env).unwrap().manifest;
        async move { Manifest::load(&config).await }
    };
    let path = file.to_str().unwrap();
    assert!(load(&[]).await.unwrap().is_none());
    assert_eq!(
        load(&[("MANIFEST", path)]).await.unwrap().unwrap().pip[0].expose(),
        "from-file"
    );
    assert_eq!(
        load(&[
            ("MANIFEST", path),
            ("MANIFEST_JSON", r#"{"pip":["from-variable"]}"#)
        ])
        .await
        .unwrap()
        .unwrap()
        .pip[0]
            .expose(),
        "from-variable"
    );
    let missing = load(&[("MANIFEST", "/no/such.yml")])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/no/such.yml") && missing.contains("MANIFEST"),
        "{missing}"
    );
    // D15.
    let more = load(&[("MANIFEST_JSON", r#"{"nodes":[], "version": 1}"#)])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(more.warnings.len(), 2, "{:?}", more.warnings);
}
