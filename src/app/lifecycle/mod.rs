//! ComfyUI's life from our side: prepare, start, ask, warm up, watch, and start again when it dies
//! (process.md).

mod death;
mod live;
mod prepare;
mod ready;

use std::time::Duration;

use death::Death;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use live::{ATTACHED_PAUSE, live, spawn};
use prepare::{Prepared, prepare};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{info, warn};

use super::starts::Starts;
use super::{App, Fatal, starts};
use crate::comfy::Comfy;
use crate::comfy::supervisor::{Backoff, wait_until_answering};
use crate::config::public_text;
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::telemetry::metrics;

/// Between SIGINT and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How a run of ComfyUI ended.
enum End {
    /// We are shutting down.
    Stopped,
    /// It died, hung, went away, or did not start.
    Died(Death),
}

/// Prepares everything, then keeps every ComfyUI running until told to stop. Prompts in flight have
/// ended when this returns well.
pub(super) async fn keep(app: &App) -> Result<(), Fatal> {
    let prepared = tokio::select! {
        prepared = prepare(app) => prepared?,
        () = app.stop.cancelled() => return Ok(()),
    };
    if app.comfy.several() {
        starts::check_ports(&app.config.comfy).await?;
    }
    let starts = Starts::new(app);
    let all = app.comfy.instances().iter();
    let mut living: FuturesUnordered<_> = all
        .map(|comfy| keep_one(app, comfy, &prepared, &starts))
        .collect();
    let mut outcome = Ok(());
    while let Some(ended) = living.next().await {
        if ended.is_err() && app.comfy.several() {
            // One ends, all end.
            app.stop.cancel();
        }
        outcome = outcome.and(ended);
    }
    app.comfy.close(outcome.as_ref().err().map(ended_for));
    outcome
}

fn ended_for(fatal: &Fatal) -> Failure {
    Failure::new(
        Code::ComfyuiUnavailable,
        format!(
            "the server ends while the prompt waits ({}): send it again",
            public_text(&fatal.0)
        ),
    )
}

/// Keeps one ComfyUI running.
async fn keep_one(
    app: &App,
    comfy: &Comfy,
    prepared: &Prepared,
    starts: &Starts<'_>,
) -> Result<(), Fatal> {
    let attached = comfy.config.command.is_empty();
    let mut backoff = Backoff::default();
    loop {
        // A server that has never been ready does not go on without what it needs.
        let first = !app.health.now().was_ready;
        let warmup = prepared.warmup.as_ref();
        let death = match run(app, comfy, (warmup, starts), first).await {
            Ok(End::Stopped) => return Ok(()),
            Ok(End::Died(death)) => death,
            Err(fatal) => Death::new(starts.failed(comfy, fatal)?),
        };
        comfy.health.set(ComfyState::Down(death.reason.clone()));
        comfy.life.ended();
        comfy.watch.fail_all(&death.failure(), !attached);
        if !attached && !comfy.config.always_restart && !death.wanted {
            if !app.comfy.several() {
                app.service.stop_all(&death.failure());
            }
            return Err(Fatal(format!(
                "{}. ALWAYS_RESTART_COMFYUI is false, so this server ends too",
                death.report
            )));
        }
        let wait = if attached {
            ATTACHED_PAUSE
        } else if death.wanted {
            Duration::ZERO
        } else {
            backoff.next(death.up)
        };
        warn!(
            instance = comfy.label(),
            wait_s = wait.as_secs(),
            reason = death.report,
            "ComfyUI is gone; {}",
            if attached {
                "waiting for it to come back"
            } else {
                "starting it again"
            }
        );
        tokio::select! {
            () = sleep(wait) => {}
            () = app.stop.cancelled() => return Ok(()),
        }
        if !attached {
            metrics::comfyui_restarted(comfy.label());
            comfy.life.starts_again();
        }
    }
}

/// The warmup prompt, and how the others fare.
type Warmup<'a> = (Option<&'a Value>, &'a Starts<'a>);

/// One run of ComfyUI, from spawning to its end. What goes wrong before the server was ready once
/// is fatal; later it only ends the run.
async fn run(app: &App, comfy: &Comfy, warmup: Warmup<'_>, first: bool) -> Result<End, Fatal> {
    comfy
        .health
        .set(ComfyState::Down("ComfyUI is starting".to_owned()));
    comfy.life.begins();
    let spawned = tokio::select! {
        spawned = spawn(comfy) => spawned,
        () = app.stop.cancelled() => return Ok(End::Stopped),
    };
    let child = match spawned {
        Ok(child) => child,
        Err(Fatal(reason)) if !first => return Ok(End::Died(Death::new(reason))),
        Err(fatal) => return Err(fatal),
    };
    if let Some(child) = &child {
        comfy.life.spawned(child.pid());
    }
    let answers = tokio::select! {
        answers = wait_until_answering(
            &comfy.config,
            app.outbound.comfyui(),
            child.as_ref()
        ) => Some(answers),
        () = app.stop.cancelled() => None,
    };
    let end = match answers {
        Some(Ok(())) => live(app, comfy, child.as_ref(), warmup, first).await,
        Some(Err(error)) if first => Err(Fatal(starts::explained(comfy, &error))),
        Some(Err(error)) => Ok(End::Died(Death {
            report: starts::explained(comfy, &error),
            ..Death::new(error.reason())
        })),
        None => Ok(End::Stopped),
    };
    // However it came to this: an interrupt first, so that ComfyUI can remove its temporary files.
    if let Some(child) = child {
        let exit = child.stop(STOP_GRACE).await;
        info!(instance = comfy.label(), %exit, "ComfyUI has ended");
    }
    if matches!(end, Ok(End::Stopped)) {
        // A node that does not look for interrupts holds its prompt to the last. Its client and its
        // webhook are told now.
        let failure = Failure::new(
            Code::ShuttingDown,
            "the server shut down before the prompt had ended: send it again",
        );
        comfy.watch.fail_all(&failure, true);
    }
    end
}
