//! How a ComfyUI ends, and what is said of it.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::comfy::Comfy;
use crate::comfy::supervisor::Child;
use crate::error::{Code, Failure};
use crate::health::ComfyState;

/// Lines of ComfyUI's output in the report of its death. All were logged when they were printed.
const LINES_REPORTED: usize = 10;

/// The end of ComfyUI.
pub(super) struct Death {
    /// In words that are fit for clients.
    pub(super) reason: String,
    /// The same with ComfyUI's last lines, for whoever runs the server.
    pub(super) report: String,
    /// For how long it had answered.
    pub(super) up: Duration,
    /// Somebody wanted it started anew.
    pub(super) wanted: bool,
}

impl Death {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            report: reason.clone(),
            reason,
            up: Duration::ZERO,
            wanted: false,
        }
    }

    pub(super) fn failure(&self) -> Failure {
        let mut failure = Failure::new(
            Code::ComfyuiUnavailable,
            format!(
                "ComfyUI died while the prompt was in it ({}): send it again",
                self.reason
            ),
        );
        failure.comfyui_died = true;
        failure
    }
}

/// Resolves when ComfyUI is dead, however that shows.
pub(super) async fn death(comfy: &Comfy, child: Option<&Child>) -> Death {
    let Some(child) = child else {
        // Somebody else's: it cannot be killed, but the prompts in flight are not kept waiting for
        // it.
        return Death::new(hang(comfy, false).await);
    };
    let reason = tokio::select! {
        () = comfy.life.restart_wanted() => return wanted(comfy),
        exit = child.exited() => format!("ComfyUI ended with {exit}"),
        () = worker_death(comfy, child) => {
            child.kill().await;
            "ComfyUI's worker thread is dead: it has work, and does nothing".to_owned()
        }
        reason = hang(comfy, true) => {
            child.kill().await;
            reason
        }
        fault = comfy.faults.reported() => {
            child.kill().await;
            fault.reason().to_owned()
        }
    };
    let lines = child.last_lines();
    let shown = lines
        .get(lines.len().saturating_sub(LINES_REPORTED)..)
        .unwrap_or_default();
    let report = if shown.is_empty() {
        reason.clone()
    } else {
        format!("{reason}; its last lines: {}", shown.join(" | "))
    };
    Death {
        report,
        ..Death::new(reason)
    }
}

/// Somebody wants ComfyUI started anew. Its prompts fail as when it dies, and before it has ended:
/// it could still interrupt them.
pub(super) fn wanted(comfy: &Comfy) -> Death {
    let death = Death {
        wanted: true,
        ..Death::new("it is started anew on request (POST /restart)")
    };
    comfy.health.set(ComfyState::Down(death.reason.clone()));
    comfy.watch.fail_all_by_wish(&death.failure());
    death
}

/// Resolves when the worker is dead. Its output is no proof: clients can write there. It is a
/// reason to ask.
async fn worker_death(comfy: &Comfy, child: &Child) {
    let mut hints = child.worker_hints();
    loop {
        if hints.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        warn!("ComfyUI's output tells of its worker's death; asking whether that is true");
        if comfy.watch.worker_is_dead(|| child.has_its_threads()).await {
            return;
        }
        info!("ComfyUI's worker is alive, whatever its output says");
    }
}

/// Resolves when a ComfyUI that is alive has not answered for `COMFYUI_HANG_TIMEOUT_S`, or has had
/// work and shown no sign of it for so long. An attached one may work for others without our seeing
/// it, so its silence says nothing.
async fn hang(comfy: &Comfy, ours: bool) -> String {
    let limit = comfy.config.hang_timeout;
    if limit.is_zero() {
        return std::future::pending().await;
    }
    let pause = (limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(15));
    let mut answered = Instant::now();
    loop {
        sleep(pause).await;
        if comfy
            .client
            .ping(limit.min(Duration::from_secs(10)))
            .await
            .is_ok()
        {
            answered = Instant::now();
        }
        if answered.elapsed() >= limit {
            return format!("ComfyUI did not answer for {} s", limit.as_secs_f64());
        }
        if ours
            && comfy
                .watch
                .silent_for()
                .is_some_and(|silence| silence >= limit)
        {
            return format!(
                "ComfyUI has had a prompt for {} s without any sign of working on it",
                limit.as_secs_f64()
            );
        }
    }
}
