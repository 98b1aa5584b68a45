//! Whether ComfyUI can be reached. Its manager's restart button, a start script that loops or a
//! supervisor replace it in place: the child stays, and nobody answers for a while (faults.md,
//! F23).

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::App;
use crate::comfy::Comfy;
use crate::comfy::catalogue::Catalogue;
use crate::error::{Code, Failure};
use crate::health::ComfyState;

/// A look while the websocket is down. Two that fail make the server not ready, within two seconds
/// of the socket's end.
const LOOK: Duration = Duration::from_millis(700);
/// Between two looks: after an answer, and after none.
const PAUSE: Duration = Duration::from_millis(400);
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// How long the first websocket is waited for.
const FIRST_CONNECTION: Duration = Duration::from_secs(15);
/// Between two looks whether it is back.
const BACK_PAUSE: Duration = Duration::from_millis(250);
/// A look whether it is back; a ComfyUI that has just started may be slow.
const BACK_LOOK: Duration = Duration::from_secs(5);
/// How long prompts in flight wait for it to come back.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether an attached ComfyUI was replaced.
const REPLACED_PAUSE: Duration = Duration::from_secs(1);

/// The way to ComfyUI.
pub(super) struct Connection<'a> {
    app: &'a App,
    comfy: &'a Comfy,
    attached: bool,
}

impl<'a> Connection<'a> {
    pub const fn new(app: &'a App, comfy: &'a Comfy, attached: bool) -> Self {
        Self {
            app,
            comfy,
            attached,
        }
    }

    /// Resolves when the websocket has ended, no new one can be had and nobody answers; the server
    /// is not ready then. A socket that alone breaks changes nothing, but what ComfyUI offers is
    /// asked anew: it may be another one.
    pub async fn lost(&self) {
        let mut connected = self.comfy.watch.connected();
        // A start is not judged: asking for all nodes may block ComfyUI for longer than a look
        // takes.
        let _ = timeout(FIRST_CONNECTION, connected.wait_for(|connected| *connected)).await;
        let mut was_connected = *connected.borrow_and_update();
        loop {
            let _ = connected.wait_for(|connected| !*connected).await;
            let mut missed = 0;
            while !*connected.borrow_and_update() {
                let pause = match self.comfy.client.ping(LOOK).await {
                    Ok(()) => {
                        missed = 0;
                        PAUSE
                    }
                    Err(error) => {
                        debug!(%error, "ComfyUI does not answer, and the websocket is down");
                        missed += 1;
                        SHORT_PAUSE
                    }
                };
                if missed >= 2 {
                    self.comfy.health.set(ComfyState::Down(
                        "ComfyUI does not answer any more; it may be restarting".to_owned(),
                    ));
                    warn!(
                        instance = self.comfy.label(),
                        "ComfyUI does not answer any more; waiting for it to come back"
                    );
                    return;
                }
                let _ = timeout(pause, connected.wait_for(|connected| *connected)).await;
            }
            if std::mem::replace(&mut was_connected, true) {
                self.ask_anew();
            }
        }
    }

    fn ask_anew(&self) {
        let (pool, comfy) = (self.app.comfy.clone(), self.comfy.clone());
        tokio::spawn(async move {
            if let Ok(catalogue) = Catalogue::ask(&comfy.client, &comfy.config).await {
                pool.set_catalogue(&comfy, catalogue);
            }
        });
    }

    /// Waits until it answers again. Prompts that the process had which is gone are told so.
    pub async fn until_back(&self) {
        let since = Instant::now();
        loop {
            match self.comfy.client.ping(BACK_LOOK).await {
                Ok(()) => break,
                // Where nobody listens any more there is no prompt either. A child that is only
                // busy may still answer.
                Err(error) if since.elapsed() >= PATIENCE && (self.attached || error.refused()) => {
                    let failure = Failure::new(
                        Code::ComfyuiUnavailable,
                        "ComfyUI went away while the prompt was in it: send it again",
                    );
                    self.comfy.watch.fail_all(&failure, false);
                }
                Err(_) => {}
            }
            sleep(BACK_PAUSE).await;
        }
        self.comfy.watch.redial();
    }
}

/// Waits until another ComfyUI listens where the one with the lost GPU did.
pub(super) async fn another_process(comfy: &Comfy) {
    while !matches!(comfy.client.mark_is_gone().await, Ok(true)) {
        sleep(REPLACED_PAUSE).await;
    }
}
