//! ComfyUI's life from our side: prepare, start, ask, warm up, watch, and start again when it dies (process.md).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{Connection, another_process};
use super::starts::{self, Starts};
use super::{App, Fatal, greeting, shutdown, warmup};
use crate::comfy::Comfy;
use crate::comfy::catalogue::Catalogue;
use crate::comfy::fault::DIED;
use crate::comfy::fault::Fault;
use crate::comfy::supervisor::{Backoff, Child, end_orphans, port_in_use, wait_until_answering};
use crate::config::public_text;
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::manifest::{Installer, Manifest, OnPlaced};
use crate::telemetry::metrics;

/// Between SIGINT and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Before an attached ComfyUI is waited for again: waiting looks by itself, so there is nothing to back off from.
const ATTACHED_PAUSE: Duration = Duration::from_millis(500);
/// Lines of ComfyUI's output in the report of its death. All were logged when they were printed.
const LINES_REPORTED: usize = 10;

/// How a run of ComfyUI ended.
enum End {
    /// We are shutting down.
    Stopped,
    /// It died, hung, went away, or did not start.
    Died(Death),
}

/// The end of ComfyUI.
struct Death {
    /// In words that are fit for clients.
    reason: String,
    /// The same with ComfyUI's last lines, for whoever runs the server.
    report: String,
    /// For how long it had answered.
    up: Duration,
    /// Somebody wanted it started anew.
    wanted: bool,
}

impl Death {
    fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            report: reason.clone(),
            reason,
            up: Duration::ZERO,
            wanted: false,
        }
    }

    fn failure(&self) -> Failure {
        Failure::new(
            Code::ComfyuiUnavailable,
            format!(
                "{DIED} while the prompt was in it ({}): send it again",
                self.reason
            ),
        )
    }
}

/// Prepares everything, then keeps every ComfyUI running until told to stop. Prompts in flight have ended when this returns well.
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

struct Prepared {
    warmup: Option<Value>,
}

/// The warmup prompt, and how the others fare.
type Warmup<'a> = (Option<&'a Value>, &'a Starts<'a>);

/// Steps 3 and 4 of process.md: everything that is done once, before ComfyUI is started.
async fn prepare(app: &App) -> Result<Prepared, Fatal> {
    let goes_on = app.durable.may_go_on();
    app.service.remove_leftovers(goes_on).await;
    app.storage
        .prepare()
        .await
        .map_err(|error| Fatal(error.to_string()))?;
    let warmup = warmup::load(app).await?;
    if let Some(manifest) = Manifest::load(&app.config.manifest)
        .await
        .map_err(|error| Fatal(error.to_string()))?
    {
        app.health.all_wait("installing the manifest");
        let installer = Installer::new(
            &app.config.manifest,
            &app.config.comfy.home,
            &app.config.storage.cache.dir,
            app.storage.clone(),
        )
        .models_in(&app.config.comfy.model_dir, shows_models(app));
        installer
            .install_before_start(&manifest, &app.stop)
            .await
            .map_err(|error| Fatal(error.to_string()))?;
        // It runs on by itself; shutting down cancels it.
        drop(installer.start_models_after(&manifest, &app.stop));
    }
    Ok(Prepared { warmup })
}

/// A model of the manifest that comes while ComfyUI is up is listed by it at once.
fn shows_models(app: &App) -> OnPlaced {
    let comfy = app.comfy.clone();
    Arc::new(move |path: &Path| {
        let catalogue = comfy.catalogue();
        let Some((folder, name)) = catalogue.folder_of(path) else {
            return;
        };
        let (comfy, folder) = (comfy.clone(), folder.to_owned());
        let dir = path.ancestors().nth(name.split('/').count());
        let dir = dir.unwrap_or(Path::new("/")).to_owned();
        tokio::spawn(async move {
            let listed = comfy.lists_model(&folder, &dir, &name).await;
            comfy.models_changed();
            if !matches!(listed, Ok(true)) {
                warn!(
                    folder,
                    name, "ComfyUI does not list a model of the manifest"
                );
            }
        });
    })
}

/// One run of ComfyUI, from spawning to its end. What goes wrong before the server was ready once is fatal; later it only ends the run.
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
        answers = wait_until_answering(&comfy.config, app.outbound.comfyui(), child.as_ref()) => Some(answers),
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
        // A node that does not look for interrupts holds its prompt to the last. Its client and its webhook are told now.
        let failure = Failure::new(
            Code::ShuttingDown,
            "the server shut down before the prompt had ended: send it again",
        );
        comfy.watch.fail_all(&failure, true);
    }
    end
}

/// Spawns ComfyUI, unless it is there already by agreement.
async fn spawn(comfy: &Comfy) -> Result<Option<Child>, Fatal> {
    let config = &*comfy.config;
    if config.command.is_empty() {
        info!(
            instance = comfy.label(),
            at = config.authority(),
            "CMD is empty: attaching to a running ComfyUI"
        );
        return Ok(None);
    }
    if port_in_use(&config.authority()).await
        && !end_orphans(&config.authority(), config.port).await
    {
        return Err(Fatal(format!(
            "something already answers at {}, where ComfyUI is to listen: stop it, choose another COMFYUI_PORT_HOST, or set CMD to an empty text to attach to it",
            config.authority()
        )));
    }
    if let Some(temp) = &config.temp {
        tokio::fs::create_dir_all(temp).await.map_err(|error| {
            Fatal(format!(
                "cannot make {}, where ComfyUI is to keep its temporary files: {error}",
                temp.display()
            ))
        })?;
    }
    Child::spawn_logged(config, comfy.output.clone())
        .await
        .map(Some)
        .map_err(|error| Fatal(error.to_string()))
}

/// The time in which ComfyUI lives, until its end or ours. It may be away for a while in between: somebody restarts it in place.
async fn live(
    app: &App,
    comfy: &Comfy,
    child: Option<&Child>,
    warmup: Warmup<'_>,
    first: bool,
) -> Result<End, Fatal> {
    let up_since = Instant::now();
    comfy.faults.clear();
    let watching = CancellationToken::new();
    let _stop_watching = watching.clone().drop_guard();
    tokio::spawn({
        let watch = comfy.watch.clone();
        async move { watch.run(watching).await }
    });
    let end = tokio::select! {
        end = serve(app, comfy, child, warmup, first) => end,
        death = death(comfy, child) => Ok(End::Died(death)),
        () = app.stop.cancelled() => Ok(End::Stopped),
    };
    match end {
        Ok(End::Stopped) => {
            // ComfyUI must live until the prompts in flight have ended; if it dies meanwhile, they end at once.
            tokio::select! {
                () = shutdown::finish_prompts(app) => {}
                death = death(comfy, child) => {
                    comfy.health.set(ComfyState::Down(death.reason.clone()));
                    comfy.watch.fail_all(&death.failure(), child.is_some());
                }
            }
            Ok(End::Stopped)
        }
        Ok(End::Died(death)) => Ok(End::Died(Death {
            up: up_since.elapsed(),
            ..death
        })),
        fatal => fatal,
    }
}

/// Makes ready, stays so while ComfyUI can be reached, waits while it cannot, and makes ready again.
async fn serve(
    app: &App,
    comfy: &Comfy,
    child: Option<&Child>,
    (warmup_prompt, starts): Warmup<'_>,
    first: bool,
) -> Result<End, Fatal> {
    let connection = Connection::new(app, comfy, child.is_none());
    let mut first = first;
    loop {
        let living = async {
            get_ready(app, comfy).await?;
            if let Some(child) = child {
                child.note_threads().await;
            }
            match warm_up(app, comfy, warmup_prompt).await {
                Ok(()) => {}
                Err(reason) if first && !starts.another_gets_over(comfy, &reason).await => {
                    return Err(reason);
                }
                // Not fatal after a restart: a prompt that fails is no reason to refuse all others.
                Err(reason) => {
                    warn!(
                        instance = comfy.label(),
                        reason, "ComfyUI is up again, but not warm"
                    );
                }
            }
            let greeted = app.health.now().was_ready;
            comfy.health.set(ComfyState::Ready);
            comfy.life.is_ready();
            app.comfy.is_ready();
            info!(instance = comfy.label(), "ready");
            if first && !greeted {
                greeting::greet(app);
            }
            std::future::pending::<Result<(), String>>().await
        };
        tokio::select! {
            refused = living => match refused {
                Err(reason) if first => return Err(Fatal(reason)),
                Err(reason) => return Ok(End::Died(Death::new(reason))),
                Ok(()) => {}
            },
            () = connection.lost() => {
                comfy.life.is_lost();
                connection.until_back().await;
                comfy.life.begins();
                info!(instance = comfy.label(), "ComfyUI answers again");
            }
            // Somebody else's cannot be ended; whoever does that will start another.
            fault = comfy.faults.reported(), if child.is_none() => {
                warn!(instance = comfy.label(), reason = fault.reason(), "the attached ComfyUI cannot be used until it is started anew");
                comfy.life.is_lost();
                comfy.watch.fail_all(&Death::new(fault.reason()).failure(), false);
                if matches!(fault, Fault::Gpu(_)) {
                    another_process(comfy).await;
                }
                comfy.faults.clear();
                connection.until_back().await;
                comfy.life.begins();
            }
        }
        first = !app.health.now().was_ready;
    }
}

/// Asks what it offers, loads workflows, connects. Prompts may come when this has returned well, the warmup prompt first.
async fn get_ready(app: &App, comfy: &Comfy) -> Result<(), String> {
    let catalogue = Catalogue::ask(&comfy.client, &comfy.config)
        .await
        .map_err(|error| error.to_string())?;
    info!(
        instance = comfy.label(),
        version = catalogue.version,
        folders = catalogue.folders.len(),
        jobs_api = catalogue.has_jobs,
        "ComfyUI is up"
    );
    let folders = catalogue
        .folders
        .iter()
        .filter(|(name, _)| *name != "custom_nodes")
        .flat_map(|(_, dirs)| dirs.clone())
        .collect();
    app.comfy.set_catalogue(comfy, catalogue);
    app.service.forget_leftovers(comfy).await;
    // Model folders may lie on a slow network file system; nothing waits for the clean-up of old links.
    tokio::spawn({
        let storage = app.storage.clone();
        async move { storage.adopt_links(folders).await }
    });
    app.workflows.load().await;
    let mut connected = comfy.watch.connected();
    let connecting = connected.wait_for(|connected| *connected);
    // The history notices every end too, so a late websocket is no reason to fail.
    if timeout(Duration::from_secs(10), connecting).await.is_err() {
        warn!("the websocket to ComfyUI cannot be opened; going on without it for now");
    }
    comfy.health.set(ComfyState::Up);
    Ok(())
}

async fn warm_up(app: &App, comfy: &Comfy, prompt: Option<&Value>) -> Result<(), String> {
    match prompt {
        Some(prompt) => warmup::run(app, comfy, prompt.clone())
            .await
            .map_err(|reason| format!("the warmup prompt failed: {reason}")),
        None => Ok(()),
    }
}

/// Resolves when ComfyUI is dead, however that shows.
async fn death(comfy: &Comfy, child: Option<&Child>) -> Death {
    let Some(child) = child else {
        // Somebody else's: it cannot be killed, but the prompts in flight are not kept waiting for it.
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

/// Somebody wants ComfyUI started anew. Its prompts fail as when it dies, and before it has ended: it could still interrupt them.
fn wanted(comfy: &Comfy) -> Death {
    let death = Death {
        wanted: true,
        ..Death::new("it is started anew on request (POST /restart)")
    };
    comfy.health.set(ComfyState::Down(death.reason.clone()));
    comfy.watch.fail_all_by_wish(&death.failure());
    death
}

/// Resolves when the worker is dead. Its output is no proof: clients can write there. It is a reason to ask.
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

/// Resolves when a ComfyUI that is alive has not answered for `COMFYUI_HANG_TIMEOUT_S`, or has had work and shown no sign of it for so long. An
/// attached one may work for others without our seeing it, so its silence says nothing.
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
