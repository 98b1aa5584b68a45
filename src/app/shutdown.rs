//! The way down (process.md, "Shutdown"): nothing new, finish what can be finished in the grace
//! period, lose nothing, leave nothing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::App;

/// For goodbyes to the broker, last events and webhooks (a prompt given up at the end of the grace
/// period has one to send), and answers on their way to slow clients, whatever the grace period.
const FAREWELL: Duration = Duration::from_secs(5);

/// The first signal's name, once there was one.
static SIGNAL: OnceLock<&str> = OnceLock::new();

/// A token that the first SIGTERM, SIGINT or SIGHUP cancels. The second one ends the process at
/// once.
pub(super) fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    // Registered before anything else is done: a signal in the first moment counts too.
    let ignores_hangup = ignored(Signal::SIGHUP);
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        warn!("signals cannot be handled: the server ends without saying goodbye");
        return stop;
    };
    let mut hangup = if ignores_hangup {
        None
    } else {
        signal(SignalKind::hangup()).ok()
    };
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
                () = hung_up(hangup.as_mut()) => "SIGHUP",
            };
            if !first {
                warn!(signal = name, "second signal: exiting now");
                crate::comfy::supervisor::kill_running();
                crate::telemetry::logging::finish();
                std::process::exit(1);
            }
            let _ = SIGNAL.set(name);
            info!(
                signal = name,
                "shutting down; a second signal exits at once"
            );
            token.cancel();
        }
    });
    stop
}

/// The terminal was closed. Never, where somebody (`nohup`) wants us to outlive that.
async fn hung_up(hangup: Option<&mut tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started us has a signal ignored.
fn ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}

/// When the grace period ends. It begins when this is asked for the first time.
fn deadline(app: &App) -> Instant {
    *app.grace_ends
        .get_or_init(|| Instant::now() + app.config.server.shutdown_grace)
}

/// Stops everything but ComfyUI, which `lifecycle` owns and which is needed until the prompts in
/// flight have ended.
pub(super) async fn finish_prompts(app: &App) {
    let left = deadline(app).saturating_duration_since(Instant::now());
    app.health.drain();
    if let Some(amqp) = app.amqp.get() {
        amqp.stop_consuming();
    }
    let in_flight = app.service.in_flight();
    if in_flight > 0 {
        info!(
            in_flight,
            grace_s = left.as_secs_f64(),
            "waiting for prompts in flight"
        );
    }
    app.service.drain(left).await;
}

/// What is left once no prompt runs and ComfyUI is gone or going.
pub(super) async fn wind_down(
    app: &App,
    closing: CancellationToken,
    server: JoinHandle<()>,
    failed: bool,
) {
    finish_prompts(app).await;
    let left = deadline(app).saturating_duration_since(Instant::now());
    closing.cancel();
    let answers = tokio::time::timeout(left.max(FAREWELL), server);
    let broker = async {
        if let Some(amqp) = app.amqp.get() {
            amqp.shutdown(
                Instant::now() + FAREWELL,
                if failed {
                    "failure"
                } else {
                    SIGNAL.get().copied().unwrap_or("shutdown")
                },
            )
            .await;
        }
    };
    let events = async {
        if let Some(system) = &app.system_webhook {
            system.drain(FAREWELL).await;
        }
    };
    let (answers, (), (), ()) = tokio::join!(
        answers,
        broker,
        events,
        app.webhooks.drain(left.max(FAREWELL))
    );
    if answers.is_err() {
        warn!("some clients had not read their answers when the server shut down");
    }
    // With the last answer and webhook the last output files became superfluous.
    app.service.cleaned(FAREWELL).await;
    if let Some(exporter) = &app.exporter {
        exporter.finish(FAREWELL).await;
    }
    info!("shut down");
}
