//! Running the tools that install things: output to the log line by line, the last lines kept for
//! the error.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ManifestError;
use crate::comfy::supervisor::{Exit, OutputTail, forward};
use crate::config::{public_text, withhold_from_tool};
use crate::process::{KilledGroup, spawn_in_group};

/// Building a wheel from source may take long; a command that waits for a human must not wait for
/// ever.
const LONGEST_RUN: Duration = Duration::from_secs(2 * 60 * 60);
/// A daemon that a package started may hold the pipes open after the command itself has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// The tools on `PATH`.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    path: Vec<PathBuf>,
    cancel: CancellationToken,
}

impl Tools {
    pub fn new(path: &[PathBuf], cancel: &CancellationToken) -> Self {
        Self {
            path: path.to_vec(),
            cancel: cancel.clone(),
        }
    }

    /// Where a tool is.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| {
                std::fs::metadata(file).is_ok_and(|metadata| {
                    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
                })
            })
    }

    /// Where a tool is that a step cannot do without.
    pub fn require(&self, name: &str, step: &str) -> Result<PathBuf, ManifestError> {
        self.find(name).ok_or_else(|| {
            ManifestError::new(format!(
                "manifest: {step} needs the command {name}, which is not on PATH"
            ))
        })
    }

    /// Runs a command to its end. `step` says what for, as in "apt: apt-get update".
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        step: &str,
        program: &Path,
        arguments: &[S],
        folder: Option<&Path>,
    ) -> Result<(), ManifestError> {
        self.execute(step, program, arguments, folder, true)
            .await
            .map(drop)
    }

    /// Runs a command for what it prints on stdout, or `None` when it fails. For questions with
    /// short answers.
    pub async fn ask<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[S],
        folder: &Path,
    ) -> Option<String> {
        let answer = self
            .execute("question", program, arguments, Some(folder), false)
            .await
            .ok()?;
        Some(answer.trim().to_owned())
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[S],
        folder: Option<&Path>,
    ) -> Command {
        let mut command = Command::new(program);
        withhold_from_tool(&mut command);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Questions to a human would wait for ever.
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("PIP_NO_INPUT", "1");
        if let Ok(path) = std::env::join_paths(&self.path) {
            command.env("PATH", path);
        }
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        command
    }

    async fn execute<S: AsRef<OsStr>>(
        &self,
        step: &str,
        program: &Path,
        arguments: &[S],
        folder: Option<&Path>,
        log: bool,
    ) -> Result<String, ManifestError> {
        let command = self.command(program, arguments, folder);
        let cannot = |error: io::Error| {
            ManifestError::new(format!(
                "manifest: {step}: {} cannot be run ({error})",
                program.display()
            ))
        };
        let mut child = spawn_in_group(command).await.map_err(cannot)?;
        let unfinished = KilledGroup::of(&child);
        let tail = OutputTail::default();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = async {
            let mut answer = String::new();
            let errors = async { forward_if(stderr, sink(step, &tail, log)).await };
            let output = async {
                match stdout {
                    // Answers are a line or two; more would not be one.
                    Some(pipe) if !log => {
                        drop(pipe.take(64 * 1024).read_to_string(&mut answer).await)
                    }
                    pipe => forward_if(pipe, sink(step, &tail, log)).await,
                }
            };
            tokio::join!(errors, output);
            answer
        };
        tokio::pin!(said);
        let mut answer = None;
        let ended = async {
            tokio::select! {
                text = &mut said => { answer = Some(text); child.wait().await }
                status = child.wait() => status,
            }
        };
        let status = tokio::select! {
            () = self.cancel.cancelled() => return Err(
                ManifestError::new(
                    format!("manifest: {step} was interrupted: the server is stopping")
                )
            ),
            ended = timeout(LONGEST_RUN, ended) => ended,
        };
        // What took too long is killed with its group when the guard goes; a daemon that a package
        // started lives on.
        if status.is_ok() {
            unfinished.ended();
        }
        let answer = match answer {
            Some(answer) => answer,
            None => timeout(LAST_OUTPUT, said).await.unwrap_or_default(),
        };
        let message = match status {
            Ok(status) => match Exit::from(status.map_err(cannot)?) {
                Exit::Code(0) => return Ok(answer),
                exit => format!("manifest: {step} failed with {exit}"),
            },
            Err(_) => format!("manifest: {step} did not end within 2 hours"),
        };
        let last_lines = tail.lines();
        Err(ManifestError {
            message,
            last_lines,
        })
    }
}

async fn forward_if(pipe: Option<impl tokio::io::AsyncRead + Unpin>, on_line: impl FnMut(&str)) {
    if let Some(pipe) = pipe {
        forward(pipe, on_line).await;
    }
}

fn sink<'a>(step: &'a str, tail: &'a OutputTail, log: bool) -> impl FnMut(&str) + 'a {
    move |line| {
        let line = public_text(line);
        if log {
            tracing::info!(source = "manifest", step, "{line}");
        }
        tail.push(&line);
    }
}
