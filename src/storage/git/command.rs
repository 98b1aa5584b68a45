//! The git command.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::Repository;
use crate::config::{public, withhold_from_tool};
use crate::process::KilledGroup;
use crate::storage::{ErrorKind, StorageError};

/// What git says last is what matters.
const STDERR_KEPT: usize = 2000;

impl Repository {
    /// Runs git and returns what it printed.
    pub(super) async fn git(
        &self,
        arguments: &[&str],
        more: &[OsString],
        dir: Option<&Path>,
    ) -> Result<String, StorageError> {
        let mut command = Command::new("git");
        if let Some(dir) = dir {
            // A clone made by another user is still ours to update.
            command
                .arg("-c")
                .arg(format!("safe.directory={}", dir.display()))
                .arg("-C")
                .arg(dir);
        }
        // Options end before what came from outside.
        command.args(arguments);
        if !more.is_empty() {
            command.arg("--").args(more);
        }
        withhold_from_tool(command.as_std_mut());
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (n, (key, value)) in self.settings.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{n}"), key)
                .env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        for name in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_TRACE",
            "GIT_TRACE_CURL",
            "GIT_CURL_VERBOSE",
        ] {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let spawned = command.spawn().map_err(|error| {
            StorageError::new(
                ErrorKind::Failed,
                format!(
                    "git cannot be run for {}: {error}. Install git in the image",
                    public(&self.url)
                ),
            )
        })?;
        let mut result = self.finish(spawned).await;
        if let Err(error) = &mut result {
            for dir in &self.dirs {
                error.message = error.message.replace(&*dir.to_string_lossy(), "…");
            }
        }
        result
    }

    async fn finish(&self, mut child: tokio::process::Child) -> Result<String, StorageError> {
        let group = KilledGroup::of(&child);
        let (mut out, mut errors) = (String::new(), String::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (_, _, status) = tokio::join!(
            read(stdout, &mut out),
            read(stderr, &mut errors),
            child.wait()
        );
        group.ended();
        if status.is_ok_and(|status| status.success()) {
            return Ok(out);
        }
        let tail: String = errors
            .chars()
            .rev()
            .take(STDERR_KEPT)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let tail = tail.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = tail.to_lowercase();
        let kind = if lower.contains("authentication") || lower.contains("could not read username")
        {
            ErrorKind::Unauthorized
        } else if lower.contains("not found") {
            ErrorKind::NotFound
        } else if ["timed out", "connect", "early eof", "rpc failed", "hung up"]
            .iter()
            .any(|sign| lower.contains(sign))
        {
            ErrorKind::Transient
        } else {
            ErrorKind::Failed
        };
        Err(StorageError::new(
            kind,
            format!("git could not fetch {}: {tail}", public(&self.url)),
        ))
    }
}

/// Reads what a pipe gives; output that is not UTF-8 is read lossily.
pub(super) async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>, into: &mut String) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        into.push_str(&String::from_utf8_lossy(&buffer[..count]));
        // Only the end is of interest, and git may talk for long.
        if into.len() > 64 * 1024 {
            let keep: String = into
                .chars()
                .rev()
                .take(4 * STDERR_KEPT)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            *into = keep;
        }
    }
}
