//! A ComfyUI from its start to its end.

use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::death::{Death, death};
use super::ready::{get_ready, warm_up};
use super::{End, Warmup};
use crate::app::connection::{Connection, another_process};
use crate::app::{App, Fatal, greeting, shutdown};
use crate::comfy::Comfy;
use crate::comfy::fault::Fault;
use crate::comfy::supervisor::{Child, end_orphans, port_in_use};
use crate::health::ComfyState;

/// Before an attached ComfyUI is waited for again: waiting looks by itself, so there is nothing to
/// back off from.
pub(super) const ATTACHED_PAUSE: Duration = Duration::from_millis(500);

/// Spawns ComfyUI, unless it is there already by agreement.
pub(super) async fn spawn(comfy: &Comfy) -> Result<Option<Child>, Fatal> {
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
            "something already answers at {}, where ComfyUI is to listen: stop it, choose another \
             COMFYUI_PORT_HOST, or set CMD to an empty text to attach to it",
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

/// The time in which ComfyUI lives, until its end or ours. It may be away for a while in between:
/// somebody restarts it in place.
pub(super) async fn live(
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
            // ComfyUI must live until the prompts in flight have ended; if it dies meanwhile, they
            // end at once.
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

/// Makes ready, stays so while ComfyUI can be reached, waits while it cannot, and makes ready
/// again.
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
                warn!(
                    instance = comfy.label(),
                    reason = fault.reason(),
                    "the attached ComfyUI cannot be used until it is started anew"
                );
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
