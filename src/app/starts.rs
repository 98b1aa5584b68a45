//! The first start of several ComfyUI: what would be fatal to one is so only when no other gets
//! over it (fleet.md, section 1).

use std::collections::BTreeMap;
use std::fmt::Display;

use tokio::sync::watch;
use tracing::error;

use super::{App, Fatal};
use crate::comfy::Comfy;
use crate::comfy::supervisor::{end_orphans, port_in_use};
use crate::config::ComfyConfig;
use crate::health::Health;

/// How the ComfyUIs fare until the first is ready.
pub(super) struct Starts<'a> {
    count: usize,
    health: &'a Health,
    /// Why each could not be made ready.
    failed: watch::Sender<BTreeMap<usize, String>>,
}

impl<'a> Starts<'a> {
    pub fn new(app: &'a App) -> Self {
        Self {
            count: app.comfy.instances().len(),
            health: &app.health,
            failed: watch::Sender::default(),
        }
    }

    /// The start of one has failed. Why, if it may try again.
    ///
    /// # Errors
    /// When that is the end of all.
    pub fn failed(&self, comfy: &Comfy, fatal: Fatal) -> Result<String, Fatal> {
        let restarts = comfy.config.always_restart || comfy.config.command.is_empty();
        if self.count == 1 || !restarts {
            return Err(fatal);
        }
        self.note(comfy, &fatal.0);
        if self.is_over() || !self.all_failed() {
            error!(
                instance = comfy.label(),
                reason = fatal.0,
                "ComfyUI could not be made ready"
            );
            return Ok(fatal.0);
        }
        let failed = self.failed.borrow();
        let reasons = failed
            .iter()
            .map(|(index, reason)| format!("ComfyUI {index}: {reason}"));
        Err(Fatal(reasons.collect::<Vec<_>>().join("\n")))
    }

    /// Waits until another one is ready although this one is not warm; `false` when none can be.
    pub async fn another_gets_over(&self, comfy: &Comfy, reason: &str) -> bool {
        if self.count == 1 {
            return false;
        }
        self.note(comfy, reason);
        let (mut failed, mut health) = (self.failed.subscribe(), self.health.watch());
        loop {
            failed.borrow_and_update();
            health.borrow_and_update();
            if self.is_over() {
                return true;
            }
            if self.all_failed() {
                return false;
            }
            tokio::select! {
                changed = failed.changed() => if changed.is_err() { return false },
                changed = health.changed() => if changed.is_err() { return false },
            }
        }
    }

    fn note(&self, comfy: &Comfy, reason: &str) {
        self.failed.send_modify(|failed| {
            failed.insert(comfy.index(), reason.to_owned());
        });
    }

    fn is_over(&self) -> bool {
        self.health.now().was_ready
    }

    fn all_failed(&self) -> bool {
        self.failed.borrow().len() >= self.count
    }
}

/// Before the first one starts: whether each can have its port.
pub(super) async fn check_ports(config: &ComfyConfig) -> Result<(), Fatal> {
    let mut taken = Vec::new();
    for instance in config
        .instances
        .iter()
        .filter(|one| !one.command.is_empty())
    {
        let one = config.of(instance.index);
        let authority = one.authority();
        if port_in_use(&authority).await && !end_orphans(&authority, one.port).await {
            taken.push(authority);
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    Err(Fatal(format!(
        "something already answers at {}, where ComfyUI is to listen: stop it, or choose another \
         COMFYUI_PORT_HOST, from which {} ports in a row are needed",
        taken.join(" and "),
        config.instances.len()
    )))
}

/// Why one of several did not come up, with what is the reason most often.
pub(super) fn explained(comfy: &Comfy, error: &dyn Display) -> String {
    if comfy.label().is_none() {
        return error.to_string();
    }
    format!(
        "ComfyUI {} is to listen on port {}, and a script as CMD must pass its arguments on \
         (\"$@\") or read COMFYUI_PORT_HOST: {error}",
        comfy.index(),
        comfy.config.port
    )
}
