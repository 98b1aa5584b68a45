//! ComfyUI's life from our side: prepare, start, ask, warm up, watch, and start again when it dies (process.md).

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{App, Fatal, shutdown, warmup};
use crate::comfy::catalogue::Catalogue;
use crate::comfy::supervisor::{Backoff, Child, port_in_use, wait_until_answering};
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::manifest::{Installer, Manifest};
use crate::telemetry::metrics;

/// Between SIGINT and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// An attached ComfyUI that does not answer for so long is gone.
const ATTACHED_PATIENCE: Duration = Duration::from_secs(3);

/// How a run of ComfyUI ended.
enum End {
    /// We are shutting down.
    Stopped,
    /// It died, hung or went away, in words.
    Died(String),
}

/// Prepares everything, then keeps ComfyUI running until told to stop. Prompts in flight have ended when this returns well.
pub(super) async fn keep(app: &App) -> Result<(), Fatal> {
    let prepared = tokio::select! {
        prepared = prepare(app) => prepared?,
        () = app.stop.cancelled() => return Ok(()),
    };
    let attached = app.config.comfy.command.is_empty();
    let mut backoff = Backoff::default();
    let mut first = true;
    loop {
        let began = Instant::now();
        let reason = match run(app, prepared.warmup.as_ref(), first).await? {
            End::Stopped => return Ok(()),
            End::Died(reason) => reason,
        };
        let up = began.elapsed();
        app.health.comfy(ComfyState::Down(reason.clone()));
        let failure = Failure::new(Code::ComfyuiUnavailable, format!("ComfyUI died while the prompt was in it ({reason}): send it again"));
        app.comfy.watch.fail_all(&failure);
        if !attached && !app.config.comfy.always_restart {
            return Err(Fatal(format!("{reason}; ALWAYS_RESTART_COMFYUI is false, so this server ends too")));
        }
        let wait = backoff.next(up);
        warn!(wait_s = wait.as_secs(), reason, "ComfyUI is gone; {}", if attached { "waiting for it to come back" } else { "starting it again" });
        tokio::select! {
            () = sleep(wait) => {}
            () = app.stop.cancelled() => return Ok(()),
        }
        metrics::comfyui_restarted();
        first = false;
    }
}

struct Prepared {
    warmup: Option<Value>,
}

/// Steps 3 and 4 of process.md: everything that is done once, before ComfyUI is started.
async fn prepare(app: &App) -> Result<Prepared, Fatal> {
    app.storage.prepare().await.map_err(|error| Fatal(error.to_string()))?;
    let warmup = warmup::load(app).await?;
    if let Some(manifest) = Manifest::load(&app.config.manifest).await.map_err(|error| Fatal(error.to_string()))? {
        app.health.comfy(ComfyState::Down("installing the manifest".to_owned()));
        let installer = Installer::new(&app.config.manifest, &app.config.comfy.home, &app.config.storage.cache.dir, app.storage.clone());
        installer.install_before_start(&manifest, &app.stop).await.map_err(|error| Fatal(error.to_string()))?;
        // It runs on by itself; shutting down cancels it.
        drop(installer.start_models_after(&manifest, &app.stop));
    }
    Ok(Prepared { warmup })
}

/// One run of ComfyUI, from spawning to its end. What goes wrong in the first start is fatal; later it only ends the run.
async fn run(app: &App, warmup_prompt: Option<&Value>, first: bool) -> Result<End, Fatal> {
    app.health.comfy(ComfyState::Down("ComfyUI is starting".to_owned()));
    let started = tokio::select! {
        started = start(app) => started,
        () = app.stop.cancelled() => return Ok(End::Stopped),
    };
    let child = match started {
        Ok(child) => child,
        Err(Fatal(reason)) if !first => return Ok(End::Died(reason)),
        Err(fatal) => return Err(fatal),
    };
    let watching = CancellationToken::new();
    let _stop_watching = watching.clone().drop_guard();
    tokio::spawn({
        let watch = app.comfy.watch.clone();
        async move { watch.run(watching).await }
    });
    let living = async {
        if let Err(reason) = get_ready(app, warmup_prompt).await {
            if first {
                return Err(Fatal(reason));
            }
            // Not fatal after a restart: a prompt that fails is no reason to refuse all others.
            warn!(reason, "ComfyUI is up again, but not warm");
        }
        app.health.comfy(ComfyState::Ready);
        info!("ready");
        std::future::pending().await
    };
    let end = tokio::select! {
        fatal = living => fatal,
        reason = death(app, child.as_ref()) => Ok(End::Died(reason)),
        () = app.stop.cancelled() => Ok(End::Stopped),
    };
    if matches!(end, Ok(End::Stopped)) {
        // ComfyUI must live until the prompts in flight have ended; if it dies meanwhile, they end at once.
        tokio::select! {
            _ = shutdown::finish_prompts(app) => {}
            reason = death(app, child.as_ref()) => {
                app.comfy.watch.fail_all(&Failure::new(Code::ComfyuiUnavailable, format!("ComfyUI died while the prompt was in it ({reason}): send it again")));
            }
        }
    }
    if let Some(child) = child {
        let exit = child.stop(STOP_GRACE).await;
        info!(%exit, "ComfyUI has ended");
    }
    if matches!(end, Ok(End::Stopped)) {
        // A node that does not look for interrupts holds its prompt to the last. Its client and its webhook are told now.
        app.comfy.watch.fail_all(&Failure::new(Code::ShuttingDown, "the server shut down before the prompt had ended: send it again"));
    }
    end
}

/// Spawns ComfyUI (unless it is there already by agreement) and waits until it answers.
async fn start(app: &App) -> Result<Option<Child>, Fatal> {
    let config = &app.config.comfy;
    let client = app.outbound.comfyui();
    if config.command.is_empty() {
        info!(at = config.authority(), "CMD is empty: attaching to a running ComfyUI");
        wait_until_answering(config, client, None).await.map_err(|error| Fatal(error.to_string()))?;
        return Ok(None);
    }
    if port_in_use(&config.authority()).await {
        return Err(Fatal(format!(
            "something already answers at {}, where ComfyUI is to listen: stop it, choose another COMFYUI_PORT_HOST, or set CMD to an empty text to attach to it",
            config.authority()
        )));
    }
    let child = Child::spawn(config).await.map_err(|error| Fatal(error.to_string()))?;
    wait_until_answering(config, client, Some(&child)).await.map_err(|error| Fatal(error.to_string()))?;
    Ok(Some(child))
}

/// Asks what it offers, loads workflows, connects, warms up.
async fn get_ready(app: &App, warmup_prompt: Option<&Value>) -> Result<(), String> {
    let catalogue = Catalogue::ask(&app.comfy.client, &app.config.comfy).await.map_err(|error| error.to_string())?;
    info!(version = catalogue.version, folders = catalogue.folders.len(), jobs_api = catalogue.has_jobs, "ComfyUI is up");
    let folders = catalogue.folders.iter().filter(|(name, _)| *name != "custom_nodes").flat_map(|(_, dirs)| dirs.clone()).collect();
    app.comfy.set_catalogue(catalogue);
    // Model folders may lie on a slow network file system; nothing waits for the clean-up of old links.
    tokio::spawn({
        let storage = app.storage.clone();
        async move { storage.adopt_links(folders).await }
    });
    app.workflows.load().await;
    let mut connected = app.comfy.watch.connected();
    let connecting = connected.wait_for(|connected| *connected);
    // The history notices every end too, so a late websocket is no reason to fail.
    if timeout(Duration::from_secs(10), connecting).await.is_err() {
        warn!("the websocket to ComfyUI cannot be opened; going on without it for now");
    }
    app.health.comfy(ComfyState::Up);
    match warmup_prompt {
        Some(prompt) => warmup::run(app, prompt.clone()).await.map_err(|reason| format!("the warmup prompt failed: {reason}")),
        None => Ok(()),
    }
}

/// Resolves when ComfyUI is dead, however that shows, with the reason in words.
async fn death(app: &App, child: Option<&Child>) -> String {
    let Some(child) = child else { return gone(app).await };
    tokio::select! {
        exit = child.exited() => {
            let lines = child.last_lines();
            let last = lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| format!("; its last line: {}", line.trim())).unwrap_or_default();
            format!("ComfyUI ended with {exit}{last}")
        }
        () = child.worker_died() => {
            child.kill().await;
            "ComfyUI's worker thread died of an exception".to_owned()
        }
        reason = hang(app) => {
            child.kill().await;
            reason
        }
    }
}

/// Resolves when a ComfyUI that is alive has not answered, or has had work and shown no sign of it, for `COMFYUI_HANG_TIMEOUT_S`.
async fn hang(app: &App) -> String {
    let limit = app.config.comfy.hang_timeout;
    if limit.is_zero() {
        return std::future::pending().await;
    }
    let pause = (limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(15));
    let mut answered = Instant::now();
    loop {
        sleep(pause).await;
        if app.comfy.client.ping(limit.min(Duration::from_secs(10))).await.is_ok() {
            answered = Instant::now();
        }
        if answered.elapsed() >= limit {
            return format!("ComfyUI did not answer for {} s", limit.as_secs_f64());
        }
        if app.comfy.watch.silent_for().is_some_and(|silence| silence >= limit) {
            return format!("ComfyUI has had a prompt for {} s without any sign of working on it", limit.as_secs_f64());
        }
    }
}

/// Resolves when an attached ComfyUI does not answer any more. Asked only while the websocket is down.
async fn gone(app: &App) -> String {
    let mut connected = app.comfy.watch.connected();
    let _ = connected.wait_for(|connected| *connected).await;
    loop {
        let _ = connected.wait_for(|connected| !*connected).await;
        let since = Instant::now();
        while !*connected.borrow() {
            if app.comfy.client.ping(Duration::from_secs(5)).await.is_ok() {
                sleep(Duration::from_millis(500)).await;
            } else if since.elapsed() >= ATTACHED_PATIENCE {
                return "the attached ComfyUI does not answer any more".to_owned();
            } else {
                sleep(Duration::from_millis(300)).await;
            }
        }
        // It may be another one than before, with other nodes.
        if let Ok(catalogue) = Catalogue::ask(&app.comfy.client, &app.config.comfy).await {
            app.comfy.set_catalogue(catalogue);
        }
    }
}
