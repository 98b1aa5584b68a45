//! A gateway's life: there is no ComfyUI to keep, only the way to those who have one.

use std::collections::HashSet;

use super::{App, Fatal};
use crate::comfy::pool::Pool;
use crate::config::Config;
use crate::fleet::{Fleet, Setup};
use crate::health::Health;
use crate::store::Store;

/// The fleet, where this is a gateway.
pub(super) fn fleet(
    config: &Config,
    store: &Store,
    health: &Health,
    comfy: &Pool,
) -> Result<Option<Fleet>, Fatal> {
    let Some(amqp) = config.amqp.clone().filter(|_| config.is_gateway) else {
        return Ok(None);
    };
    let setup = Setup {
        amqp,
        gateway: config.gateway.clone(),
        dir: store.dir().to_path_buf(),
        max_attempts: u32::try_from(config.state.max_attempts).unwrap_or(u32::MAX),
        health: health.clone(),
        comfy: comfy.clone(),
    };
    Fleet::new(setup).map(Some).map_err(Fatal)
}

/// Serves until told to stop. The connection stays for those who still wait.
pub(super) async fn keep(app: &App, fleet: &Fleet) {
    app.service.remove_leftovers(HashSet::new()).await;
    fleet.forget_all_but(|id| app.durable.live(id).is_some());
    app.workflows.load().await;
    let port = app
        .address
        .get()
        .map_or(app.config.server.port, std::net::SocketAddr::port);
    fleet.start(port);
    app.stop.cancelled().await;
    super::shutdown::finish_prompts(app).await;
}
