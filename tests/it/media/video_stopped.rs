//! A conversion that is cancelled, dropped or takes too long leaves no process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comfyui_api::media::{Conversion, Converted, Media};
use tokio_util::sync::CancellationToken;

use super::video::script;
use super::{config, photo_file, source};

/// A stand-in that leaves a grandchild behind and never ends.
fn endless(folder: &Path) -> PathBuf {
    let path = folder.join("slow ffmpeg");
    script(
        &path,
        "case \"$*\" in *-encoders*) exit 0;; esac\nsleep 300 & echo $! > \"$(dirname \
         \"$0\")/pid\"\nwait",
    );
    path
}

async fn grandchild(folder: &Path) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(pid) = std::fs::read_to_string(folder.join("pid"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
        {
            return pid;
        }
        assert!(Instant::now() < deadline, "the stand-in was never started");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn assert_dead(pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    // A zombie that nobody collects counts as dead.
    let alive = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    while alive() {
        assert!(Instant::now() < deadline, "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn cancel_drop_and_time_limit_kill_the_whole_group() {
    for way in ["cancel", "drop", "limit"] {
        let (folder, path) = photo_file(16, 16);
        let mut config = config();
        config.ffmpeg = endless(folder.path());
        if way == "limit" {
            config.ffmpeg_timeout = Duration::from_secs(4);
        }
        let cancel = CancellationToken::new();
        let (media, token) = (Media::new(&config), cancel.clone());
        let conversion = Conversion::parse("mp4", None).unwrap();
        media.check(&conversion).await.unwrap();
        let task =
            tokio::spawn(async move { media.convert(&conversion, &[source(&path)], &token).await });
        let pid = grandchild(folder.path()).await;
        match way {
            "cancel" => cancel.cancel(),
            "drop" => task.abort(),
            _ => {}
        }
        let done = tokio::time::timeout(Duration::from_secs(20), task)
            .await
            .expect("it ends");
        match (way, done) {
            ("drop", Err(error)) => assert!(error.is_cancelled()),
            ("cancel", Ok(done)) => assert!(
                matches!(&done[..], [Converted::Failed(0, why)] if why.contains("cancelled")),
                "{done:?}"
            ),
            ("limit", Ok(done)) => assert!(
                matches!(
                    &done[..],
                    [Converted::Failed(0, why)] if why.contains("FFMPEG_TIMEOUT_S")
                ),
                "{done:?}"
            ),
            (_, other) => panic!("{way}: {other:?}"),
        }
        assert_dead(pid).await;
    }
}
