//! All ComfyUI that this server drives, as one: what they offer together, and which of them gets a
//! run ([`places`], [`need`]).
//!
//! With one ComfyUI this is a thin shell around it, and everything is as it is without.

mod need;
mod offers;
mod places;
mod restart;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use need::Need;
use offers::Offers;
pub use places::{Load, Place};
use places::{Places, Wanted};

use super::Comfy;
use crate::config::ComfyConfig;
use crate::error::{Code, Failure};
use crate::health::{ComfyState, Health};

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    instances: Vec<Comfy>,
    places: Arc<Places>,
    offers: Offers,
    health: Health,
    /// Cancelled when no ComfyUI will come back, for this reason.
    closed: CancellationToken,
    reason: OnceLock<Failure>,
    /// They are being started anew, one after the other.
    rolling: AtomicBool,
}

impl Pool {
    /// Of at least one ComfyUI.
    pub fn new(instances: Vec<Comfy>, config: &ComfyConfig, health: Health) -> Self {
        let places = Places::new(instances.clone(), config.model_switch_jobs);
        let inner = Inner {
            places: Arc::new(places),
            instances,
            offers: Offers::default(),
            health,
            closed: CancellationToken::new(),
            reason: OnceLock::new(),
            rolling: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Every ComfyUI, in order.
    pub fn instances(&self) -> &[Comfy] {
        &self.inner.instances
    }

    /// Whether there are several.
    pub fn several(&self) -> bool {
        self.inner.instances.len() > 1
    }

    /// One of them; the first for a number that none has.
    pub fn instance(&self, index: usize) -> &Comfy {
        let instances = &self.inner.instances;
        instances.get(index).unwrap_or(&instances[0])
    }

    /// The one to ask what all of them know: the first that is up.
    pub fn any(&self) -> &Comfy {
        let mut instances = self.inner.instances.iter();
        let up = instances.find(|comfy| comfy.health.is_up());
        up.unwrap_or(&self.inner.instances[0])
    }

    /// Those that are up; the first where none is.
    pub fn up(&self) -> Vec<&Comfy> {
        let instances = self.inner.instances.iter();
        let up: Vec<&Comfy> = instances.filter(|comfy| comfy.health.is_up()).collect();
        if up.is_empty() {
            return vec![&self.inner.instances[0]];
        }
        up
    }

    /// The lengths of all queues together, as ComfyUI reports them.
    pub fn queue_remaining(&self) -> u64 {
        let lengths = self.inner.instances.iter();
        lengths
            .map(|comfy| *comfy.watch.queue_remaining().borrow())
            .sum()
    }

    /// The same as it changes. Needs a runtime where there are several.
    pub fn queue_length(&self) -> watch::Receiver<u64> {
        if !self.several() {
            return self.instance(0).watch.queue_remaining();
        }
        let (tell, told) = watch::channel(self.queue_remaining());
        let tell = Arc::new(tell);
        for comfy in self.instances() {
            let (pool, tell) = (self.clone(), tell.clone());
            let mut length = comfy.watch.queue_remaining();
            tokio::spawn(async move {
                while length.changed().await.is_ok() {
                    let all = pool.queue_remaining();
                    tell.send_if_modified(|known| std::mem::replace(known, all) != all);
                }
            });
        }
        told
    }

    /// What each has to do, in order.
    pub fn loads(&self) -> Vec<Load> {
        self.inner.places.loads()
    }

    /// Whether some ComfyUI that is ready has nothing to do.
    pub fn any_idle(&self) -> bool {
        let loads = self.loads();
        let mut both = self.instances().iter().zip(&loads);
        both.any(|(comfy, load)| {
            comfy.health.now() == ComfyState::Ready && load.waiting + load.running == 0
        })
    }

    /// A number that is greater than those of all runs before, whichever ComfyUI they went to.
    pub fn next_number(&self) -> u64 {
        self.inner.places.next_number()
    }

    /// A place for a run. Where none is up it is waited for, if there are several; a single one is
    /// where everything goes, up or not.
    ///
    /// # Errors
    /// 503 when no ComfyUI will come back, or the only ones that have the graph's classes are down
    /// and the run is not `in_flight` yet.
    pub async fn place(&self, need: &Need, in_flight: bool) -> Result<Place, Failure> {
        let inner = &self.inner;
        let mut changes = inner.health.watch();
        loop {
            changes.borrow_and_update();
            match inner.places.take(need, self.several()) {
                Wanted::Place(place) => return Ok(*place),
                Wanted::Down(class) if !in_flight => {
                    return Err(Failure::new(
                        Code::ComfyuiUnavailable,
                        format!(
                            "the ComfyUI that has the node class {class} is down: try again in a \
                             moment"
                        ),
                    ));
                }
                Wanted::Down(_) | Wanted::Nothing => {}
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return Err(self.closed_for())
                },
                () = inner.closed.cancelled() => return Err(self.closed_for()),
            }
        }
    }

    /// A ComfyUI has become ready: it may take over what waits elsewhere.
    pub fn is_ready(&self) {
        self.inner.places.balance();
    }

    /// No ComfyUI will come back: whoever waits for one ends with this.
    pub fn close(&self, reason: Option<Failure>) {
        if let Some(reason) = reason {
            let _ = self.inner.reason.set(reason);
        }
        self.inner.closed.cancel();
    }

    fn closed_for(&self) -> Failure {
        let reason = self.inner.reason.get().cloned();
        reason.unwrap_or_else(|| {
            Failure::new(
                Code::ShuttingDown,
                "the server shut down before the prompt had ended: send it again",
            )
        })
    }
}
