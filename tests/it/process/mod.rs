//! The supervisor: real processes, real signals.

mod child;
mod server;
mod stopping;
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use comfyui_api::comfy::supervisor::{Child, Exit};
use comfyui_api::config::{ComfyConfig, Config};
use tokio::time::{sleep, timeout};

use crate::support::product::free_port;

/// Everything here is a matter of milliseconds; this only ends a test that hangs.
const SOON: Duration = Duration::from_secs(20);

fn config(variables: &[(&str, &str)]) -> ComfyConfig {
    let env: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_env(&env).unwrap().comfy
}

/// A `CMD` that runs a shell script.
fn shell(script: &str) -> ComfyConfig {
    let mut config = config(&[("CMD", "true")]);
    config.command = vec!["sh".into(), "-c".into(), script.into()];
    config
}

async fn spawn(script: &str) -> Child {
    Child::spawn(&shell(script)).await.unwrap()
}

async fn ended(child: &Child) -> Exit {
    timeout(SOON, child.exited())
        .await
        .expect("the child should have ended")
}

async fn line_with(child: &Child, text: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(line) = child
            .last_lines()
            .into_iter()
            .find(|line| line.contains(text))
        {
            return line;
        }
        assert!(
            Instant::now() < deadline,
            "no line with {text:?} in {:?}",
            child.last_lines()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

fn script(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// The server with a `CMD` that is a shell script.
fn server(mut command: Command, folder: &Path, script_text: &str) -> Command {
    let cmd = script(
        folder,
        "cmd.sh",
        &format!("#!/bin/sh\n{script_text}\n"),
        0o755,
    );
    command
        .env("CMD", cmd)
        .env("HOME", folder)
        .env("WORKFLOW_DIR", folder)
        .env("COMFY_HOME", folder)
        .env("MARK", folder.join("mark"));
    command
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("COMFYUI_PORT_HOST", free_port().to_string());
    command
}
