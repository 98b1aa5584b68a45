//! Real repositories, real git, served over HTTP by git itself and by a plain web server.

mod clones;
mod folders;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply, Request};
use crate::support::storage::Bench;

fn git(dir: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .output()
        .expect("git must be installed");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A bare repository `r.git` with three commits and the tag `first`, beside its work tree.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    for n in 1..=3 {
        commit(&work, &n.to_string());
        if n == 1 {
            git(&work, &["tag", "first"]);
        }
    }
    git(dir.path(), &["clone", "-q", "--bare", "work", "r.git"]);
    git(&dir.path().join("r.git"), &["update-server-info"]);
    dir
}

fn commit(work: &Path, text: &str) {
    std::fs::write(work.join("file"), text).unwrap();
    git(work, &["add", "."]);
    git(work, &["commit", "-q", "-m", text]);
}

/// git's own server for the smart protocol.
fn backend(root: &Path, request: &Request) -> Reply {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env(
            "CONTENT_TYPE",
            request.header("content-type").unwrap_or_default(),
        )
        .env(
            "HTTP_CONTENT_ENCODING",
            request.header("content-encoding").unwrap_or_default(),
        )
        .env(
            "GIT_PROTOCOL",
            request.header("git-protocol").unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git must be installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&request.body)
        .unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let mut reply = Reply::ok(&output[end + 4..]);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => reply.status = value[..3].parse().unwrap(),
            _ => reply = reply.with(name, value),
        }
    }
    reply
}

async fn smart(root: PathBuf) -> Origin {
    Origin::start(move |request, _| backend(&root, request)).await
}

/// Clones to that path; what it is called there if that name is taken.
async fn clone(
    bench: &Bench,
    url: &str,
    to: &Path,
) -> Result<String, comfyui_api::storage::StorageError> {
    let (dir, name) = (to.parent().unwrap(), to.file_name().unwrap());
    bench
        .storage
        .clone_repository(
            url,
            &[dir.to_owned()],
            name.to_str().unwrap(),
            &CancellationToken::new(),
        )
        .await
}
