//! One run of ffmpeg: fed, timed, and killed with everything it has started when nobody wants it
//! any more.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Ffmpeg;
use crate::config::{plain_text, withhold_from_tool};
use crate::process::KilledGroup;

/// How much of what ffmpeg complains about is kept.
const TAIL: usize = 4096;
/// How many of its last lines are reported.
const LINES: usize = 3;

/// Pieces of standard input, or the reason why there will be no more.
pub(in crate::media) type Feed = mpsc::Receiver<Result<Bytes, String>>;

/// Runs ffmpeg with these arguments. `folder` is left out of what ffmpeg says about its files.
///
/// # Errors
/// A sentence fragment: cannot start, failed with its last lines, took too long, cancelled, or what
/// the feed says.
pub(in crate::media) async fn run(
    ffmpeg: &Ffmpeg,
    arguments: Vec<OsString>,
    feed: Option<Feed>,
    folder: &Path,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let mut command = Command::new(&ffmpeg.command);
    withhold_from_tool(command.as_std_mut());
    command.args(arguments).stdin(if feed.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|e| format!("ffmpeg could not be started ({})", e.kind()))?;
    let group = KilledGroup::of(&child);
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let work = async {
        let (fed, complaints) = tokio::join!(pump(feed, stdin), last_bytes(stderr));
        fed?;
        child
            .wait()
            .await
            .map(|status| (status, complaints))
            .map_err(|e| format!("ffmpeg could not be waited for ({e})"))
    };
    let (status, complaints) = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err("it was cancelled".to_owned()),
        done = tokio::time::timeout(ffmpeg.timeout, work) => done.map_err(|_| {
            format!(
                "ffmpeg took longer than {} seconds (FFMPEG_TIMEOUT_S)",
                ffmpeg.timeout.as_secs_f64()
            )
        })??,
    };
    group.ended();
    if status.success() {
        Ok(())
    } else {
        Err(explain(&complaints, folder))
    }
}

async fn pump(feed: Option<Feed>, stdin: Option<ChildStdin>) -> Result<(), String> {
    let (Some(mut feed), Some(mut stdin)) = (feed, stdin) else {
        return Ok(());
    };
    while let Some(piece) = feed.recv().await {
        // When ffmpeg has closed its end, its exit status and last lines say why.
        if stdin.write_all(&piece?).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn last_bytes(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut tail = Vec::new();
    let Some(mut pipe) = pipe else { return tail };
    let mut buffer = vec![0; TAIL];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        tail.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }
    tail
}

/// ffmpeg's last lines, with file names instead of paths.
fn explain(complaints: &[u8], folder: &Path) -> String {
    let text = plain_text(&String::from_utf8_lossy(complaints))
        .replace(&format!("{}/", folder.display()), "");
    if text.contains("matches no streams") || text.contains("does not contain any stream") {
        return "the file has no sound or picture of the kind that is wanted".to_owned();
    }
    let lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(without_folders)
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(LINES)..)
        .unwrap_or_default()
        .join("; ");
    if last.is_empty() {
        "ffmpeg failed and did not say why".to_owned()
    } else {
        format!("ffmpeg failed: {last}")
    }
}

/// Cuts the folders off every word that looks like an absolute path.
fn without_folders(line: &str) -> String {
    let words = line
        .split(' ')
        .map(|word| match (word.find('/'), word.rfind('/')) {
            (Some(first), Some(last))
                if last > first
                    || word.starts_with(['/', '\'', '"'])
                    || word.starts_with("file:") =>
            {
                format!(
                    "{}{}",
                    word.get(..first).unwrap_or_default(),
                    word.get(last + 1..).unwrap_or_default()
                )
            }
            _ => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::explain;

    #[test]
    fn paths_are_reduced_to_file_names() {
        let said = b"[in#0] noise\nfile:/data/my out/a b.mp4: Invalid data found\nError opening \
                     '/usr/share/x/y.conf'\n";
        let text = explain(said, Path::new("/data/my out"));
        assert_eq!(
            text,
            "ffmpeg failed: [in#0] noise; file:a b.mp4: Invalid data found; Error opening 'y.conf'"
        );
    }
}
