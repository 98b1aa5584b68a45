//! ComfyUI as a child process.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::environment::{AI_DOCK_ROOT, ai_dock_environment};
use super::orphan;
use super::output::{OutputLog, OutputTail, forward};
use super::threads::Threads;
use crate::config::{self, ComfyConfig, public_text};
use crate::process::{Guarded, ProcessGroup, guard, spawn_in_group};

/// A descendant that left the process group may hold the pipes open; after the exit, output is
/// awaited only this long.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// ComfyUI could not be started; one sentence that names `CMD`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SpawnError(pub String);

/// How ComfyUI ended. Displays as `exit code 1` or `signal 9 (SIGKILL)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {number} ({signal})"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// A ComfyUI that we started. Dropping it kills its process group.
///
/// When it exits by itself, what is left of its group is killed too: a forgotten descendant would
/// hold the port and spoil the next start.
#[derive(Debug)]
pub struct Child {
    group: ProcessGroup,
    exit: watch::Receiver<Option<Exit>>,
    worker_hints: watch::Receiver<u64>,
    threads: Mutex<Threads>,
    /// Ends the group if we are killed.
    _guarded: Option<Guarded>,
    /// Until when descendants may outlive the leader; set by [`Child::stop`].
    patience: Arc<watch::Sender<Option<Instant>>>,
    tail: OutputTail,
}

impl Child {
    /// Starts `CMD`. Must be called within a Tokio runtime; the fork happens on a thread that lives
    /// as long as the process, because the child dies with that thread (the kernel's parent-death
    /// signal).
    ///
    /// # Errors
    /// When there is nothing to run (`CMD` empty means attach), the command is not there or cannot
    /// be executed, or `BASE=ai-dock` and its environment cannot be loaded.
    pub async fn spawn(config: &ComfyConfig) -> Result<Self, SpawnError> {
        Self::spawn_logged(config, OutputLog::default()).await
    }

    /// [`Child::spawn`], with a log that outlives the child.
    ///
    /// # Errors
    /// As [`Child::spawn`].
    pub async fn spawn_logged(config: &ComfyConfig, log: OutputLog) -> Result<Self, SpawnError> {
        let Some((program, arguments)) = config.command.split_first() else {
            return Err(SpawnError(
                "CMD is empty, which means that ComfyUI runs already: there is nothing to start"
                    .into(),
            ));
        };
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        if config.ai_dock {
            let environment = ai_dock_environment(Path::new(AI_DOCK_ROOT))
                .await
                .map_err(SpawnError)?;
            command.env_clear().envs(environment);
        }
        config::withhold_from_comfyui(&mut command);
        command
            .env(orphan::MARK, orphan::own_mark())
            .env("DIRECT_ADDRESS", &config.address)
            .env("COMFYUI_PORT_HOST", config.port.to_string())
            .envs(own_environment(config))
            .env("WEB_ENABLE_AUTH", "false")
            .env("CF_QUICK_TUNNELS", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = spawn_in_group(command)
            .await
            .map_err(|error| refused(program, &error))?;
        Self::watch(child, &log, config.label())
            .ok_or_else(|| SpawnError(format!("CMD: {program} ended before it could be watched")))
    }

    /// Starts the tasks that read the output and wait for the end.
    fn watch(
        mut child: tokio::process::Child,
        log: &OutputLog,
        label: Option<usize>,
    ) -> Option<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok())?;
        let group = ProcessGroup(Pid::from_raw(pid));
        let tail = OutputTail::default();
        let (hint, worker_hints) = watch::channel(0);
        let hint = Arc::new(hint);
        let stdout = child.stdout.take().map(|pipe| {
            tokio::spawn(forward(
                pipe,
                line_sink((label, "stdout"), tail.clone(), log.clone(), hint.clone()),
            ))
        });
        let stderr = child.stderr.take().map(|pipe| {
            tokio::spawn(forward(
                pipe,
                line_sink((label, "stderr"), tail.clone(), log.clone(), hint),
            ))
        });
        running().push(pid);
        let guarded = guard::protect(group);
        let (exited, exit) = watch::channel(None);
        let patience = Arc::new(watch::channel(None).0);
        let until = patience.clone();
        tokio::spawn(async move {
            let status = child.wait().await;
            // Read through a copy: a borrow of the channel must not live across an await.
            let deadline: Option<Instant> = *until.borrow();
            if let Some(deadline) = deadline {
                group.empty_by(deadline).await;
            }
            group.signal(Signal::SIGKILL);
            let output = async {
                for reader in [stdout, stderr].into_iter().flatten() {
                    let _ = reader.await;
                }
            };
            let _ = timeout(LAST_OUTPUT, output).await;
            running().retain(|other| *other != pid);
            let _ = exited.send(Some(status.map_or(Exit::Signal(0), Exit::from)));
        });
        tracing::info!(instance = label, pid, "ComfyUI started");
        Some(Self {
            group,
            exit,
            worker_hints,
            threads: Mutex::default(),
            _guarded: guarded,
            patience,
            tail,
        })
    }

    /// Process id, which is also the id of its process group.
    pub fn pid(&self) -> i32 {
        self.group.0.as_raw()
    }

    /// Waits until it has ended, its group is gone and its last output was read. Cancel-safe; may
    /// be awaited any number of times.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(value) => value.unwrap_or(Exit::Signal(0)),
            // The task only goes without a word when the runtime ends.
            Err(_) => Exit::Signal(0),
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Changes whenever the output tells of the death of ComfyUI's only worker thread, without
    /// which it answers every request and never runs a prompt again (comfyui.md, 12.1). A hint and
    /// no more: ComfyUI prints what clients send.
    pub fn worker_hints(&self) -> watch::Receiver<u64> {
        self.worker_hints.clone()
    }

    /// Notes the threads of a ComfyUI that answers: its worker runs by then.
    pub async fn note_threads(&self) {
        let group = self.group;
        let noted = tokio::task::spawn_blocking(move || Threads::of(group)).await;
        *self.threads.lock() = noted.unwrap_or_default();
    }

    /// Whether every thread that was noted still runs, and so the worker among them.
    pub fn has_its_threads(&self) -> bool {
        self.threads.lock().all_run()
    }

    /// The last lines of its output (at most 200), oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        self.tail.lines()
    }

    /// Asks it to end (SIGINT to its group: ComfyUI then removes its temporary files), kills the
    /// group after `grace`, and waits until it is gone.
    pub async fn stop(&self, grace: Duration) -> Exit {
        let deadline = Instant::now() + grace;
        if self.exit().is_none() {
            self.patience.send_replace(Some(deadline));
            self.group.signal(Signal::SIGINT);
        }
        if let Ok(exit) = tokio::time::timeout_at(deadline, self.exited()).await {
            return exit;
        }
        tracing::warn!(
            grace_s = grace.as_secs(),
            "ComfyUI did not end after SIGINT and is killed"
        );
        self.kill().await
    }

    /// Kills its group and waits until it is gone.
    pub async fn kill(&self) -> Exit {
        self.kill_group();
        self.exited().await
    }

    fn kill_group(&self) {
        // After the exit was noticed the number may belong to somebody else.
        if self.exit().is_none() {
            self.group.signal(Signal::SIGKILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// The process groups of the ComfyUIs that run, for an end without goodbyes.
static RUNNING: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<i32>> {
    RUNNING.lock()
}

/// What one of several is told beside its port, and which GPUs it sees, where that is said.
fn own_environment(config: &ComfyConfig) -> Vec<(&'static str, String)> {
    let mut own = Vec::new();
    if let Some(index) = config.label() {
        own.push(("COMFYUI_INSTANCE", index.to_string()));
    }
    if let Some(devices) = &config.devices {
        for name in [
            "CUDA_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
            "ASCEND_RT_VISIBLE_DEVICES",
        ] {
            own.push((name, devices.clone()));
        }
        // The order in which nvidia-smi counts.
        own.push(("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()));
    }
    own
}

/// Kills the ComfyUIs that run, if any, with everything they have started. For when the process is
/// about to exit: the signal that a child gets at its parent's death does not reach what a start
/// script has started.
pub fn kill_running() {
    for pid in running().drain(..) {
        ProcessGroup(Pid::from_raw(pid)).signal(Signal::SIGKILL);
    }
}

/// What happens to each line: our log, the tail, and a look whether it hints at the worker's death.
fn line_sink(
    (instance, stream): (Option<usize>, &'static str),
    tail: OutputTail,
    log: OutputLog,
    worker_hint: Arc<watch::Sender<u64>>,
) -> impl FnMut(&str) + Send {
    move |line| {
        // Nodes that fetch something themselves may print URLs with their credentials.
        let line = &public_text(line);
        tracing::info!(source = "comfyui", instance, stream, "{line}");
        tail.push(line);
        log.push(line);
        if line.contains("Exception in thread") && line.contains("(prompt_worker)") {
            worker_hint.send_modify(|hints| *hints += 1);
        }
    }
}

fn refused(program: &str, error: &io::Error) -> SpawnError {
    let why = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') && Path::new(program).exists() => {
            format!("{program} is there, but the interpreter that its first line names is not")
        }
        io::ErrorKind::NotFound if program.contains('/') => format!("{program} does not exist"),
        io::ErrorKind::NotFound => format!("the command {program} was not found on PATH"),
        io::ErrorKind::PermissionDenied => format!(
            "{program} is not executable: make it so with chmod +x, or name its interpreter first"
        ),
        _ => format!("{program} could not be run ({error})"),
    };
    SpawnError(format!(
        "CMD: {why}. Set CMD to the command that starts ComfyUI, or to nothing to attach to one \
         that runs already"
    ))
}
