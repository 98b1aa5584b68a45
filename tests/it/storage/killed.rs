//! kill -9 in the middle of a download: nothing half is visible, and the next start goes on.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, hasty};

/// Set in the process that is to be killed: the directory and the URL.
const CHILD: &str = "COMFYUI_API_TEST_KILLED_DOWNLOAD";

/// Run by [`a_killed_download_is_never_visible`] in a process of its own; without its variable it
/// has nothing to do.
#[tokio::test]
async fn child_that_downloads() {
    let Ok(work) = std::env::var(CHILD) else {
        return;
    };
    let (cache, url) = work.split_once('|').unwrap();
    let bench = Bench::new(&[("CACHE_DIR", cache)]).await;
    let _ = bench.get(url).await;
}

#[tokio::test]
async fn a_killed_download_is_never_visible() {
    let body = content(3 << 20);
    let served = Arc::clone(&body);
    let slow = Origin::start(move |request, _| Reply {
        trickle: Some(8 << 10),
        ..Reply::file(request, &served, "\"v\"")
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let url = slow.url("/killed.bin");
    let grown = |bytes: u64| {
        let entries = std::fs::read_dir(&cache)
            .unwrap()
            .filter_map(|entry| entry.ok()?.metadata().ok());
        entries
            .map(|metadata| std::os::unix::fs::MetadataExt::blocks(&metadata) * 512)
            .sum::<u64>()
            >= bytes
    };
    for round in 1..=3_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::killed::child_that_downloads"])
            .env(CHILD, format!("{}|{url}", cache.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::support::storage::until("the download has begun", || grown(round * 100_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let names: Vec<_> = std::fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            names.iter().all(|name| name.ends_with(".partial")),
            "{names:?}"
        );
        assert_eq!(names.len(), 1, "{names:?}");
    }
    let bench = Bench::in_dir(dir, &[], hasty()).await;
    let fetched = bench.get(&url).await.unwrap();
    assert!(!fetched.cached);
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *body);
    assert_eq!(bench.names().len(), 2, "{:?}", bench.names());
}

/// Run by [`a_disk_that_fills_up_is_named`] in a process that may write no more than 1 MiB into a
/// file.
#[tokio::test]
async fn child_with_little_disk() {
    let Ok(work) = std::env::var(CHILD_LIMITED) else {
        return;
    };
    let (cache, url) = work.split_once('|').unwrap();
    let bench = Bench::new(&[("CACHE_DIR", cache)]).await;
    let error = bench.get(url).await.unwrap_err();
    assert!(
        error.message.contains("the disk is full") && error.message.contains("bytes free"),
        "{error}"
    );
    assert!(
        !bench
            .names()
            .iter()
            .any(|name| name.ends_with(".partial") || name.ends_with(".bin")),
        "{:?}",
        bench.names()
    );
}

const CHILD_LIMITED: &str = "COMFYUI_API_TEST_LITTLE_DISK";

#[tokio::test]
async fn a_disk_that_fills_up_is_named() {
    let body = content(3 << 20);
    // No length: the lack of room shows only on the way.
    let origin = Origin::start(move |_, _| Reply {
        until_close: true,
        body: Arc::clone(&body),
        ..Reply::status(200)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    // A file size limit is the disk-full that needs no disk; its signal is ignored, so that writing
    // fails as on a full disk.
    let script =
        "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --exact storage::killed::child_with_little_disk";
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap());
    command.env(
        CHILD_LIMITED,
        format!("{}|{}", dir.path().display(), origin.url("/full.bin")),
    );
    let output = command.output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(origin.requests().len(), 1);
}
