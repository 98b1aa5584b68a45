//! Keeps the outputs of a job in the store, each as soon as its node has finished (v2.md,
//! "Outputs").
//!
//! Orders are worked off one after the other, beside the run. An order holds the files it speaks of
//! against removal, and the job ends only when all orders are done.

mod find;
mod hand_over;
mod observe;
mod worker;

use std::any::Any;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use worker::Worker;

use super::origin::Origin;
use super::outputs::{FileCleanup, NodeOutput, OutputFile};
use super::policy::Keep;
use super::registry::Job;
use super::service::Inner;
use crate::comfy::client::Client;
use crate::store::{AssetRecord, StoreError};

/// The longest text that becomes an asset.
const MAX_TEXT: usize = 64 << 20;

/// What one job keeps.
#[derive(Debug)]
pub struct Keeping {
    keep: Option<Arc<Keep>>,
    /// Outputs are handed over to it instead of being kept here.
    origin: Option<Arc<dyn Origin>>,
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
    idle: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Where the nodes' outputs are found, once the graph runs; `None` while nothing is committed
    /// node by node.
    place: Mutex<Option<Place>>,
    /// How many outputs of nodes the run has told of.
    told: AtomicUsize,
    /// The files of the result that are kept, in their order.
    kept: Mutex<Vec<AssetRecord>>,
    /// Results that nobody waits for.
    later: Mutex<Option<Later>>,
}

/// Files of a result that are being kept, and where they were uploaded to.
#[derive(Debug)]
struct Later {
    kept: oneshot::Receiver<Result<Vec<AssetRecord>, StoreError>>,
    urls: Vec<String>,
}

/// Where files lie, and what holds them.
#[derive(Clone)]
pub struct Place {
    /// ComfyUI's output directory.
    pub output_dir: PathBuf,
    /// ComfyUI's directory for previews.
    pub temp_dir: PathBuf,
    /// The results will be other files: only previews and texts are kept as they are.
    pub results_differ: bool,
    /// Asked for previews that are not on this machine, with the folder that they are fetched
    /// into.
    pub asked: Option<(Client, Arc<FileCleanup>)>,
    /// Files are removed when the last of these is gone.
    pub guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("output_dir", &self.output_dir)
            .field("guards", &self.guards.len())
            .finish_non_exhaustive()
    }
}

enum Order {
    Node {
        node: String,
        output: Value,
        place: Place,
    },
    Results {
        files: Vec<OutputFile>,
        place: Place,
        done: oneshot::Sender<Result<Vec<AssetRecord>, StoreError>>,
    },
    /// Dropped when all before it is done.
    Tell(oneshot::Sender<()>),
    Withdraw,
}

impl Keeping {
    pub(super) fn new(keep: Arc<Keep>) -> Self {
        Self::with(Some(keep), None)
    }

    /// Each output is handed over to whoever has sent the job, as soon as its node has finished.
    pub(super) fn for_origin(origin: Arc<dyn Origin>) -> Self {
        Self::with(None, Some(origin))
    }

    fn with(keep: Option<Arc<Keep>>, origin: Option<Arc<dyn Origin>>) -> Self {
        Self {
            keep,
            origin,
            orders: Mutex::default(),
            idle: tokio::sync::Mutex::default(),
            place: Mutex::default(),
            told: AtomicUsize::new(0),
            kept: Mutex::default(),
            later: Mutex::default(),
        }
    }

    /// Whoever is told of the result is told of them too, so it waits for them.
    pub fn by_address(&self) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.by_address)
    }

    /// How they are kept, if that is here.
    pub fn keep(&self) -> Option<&Keep> {
        self.keep.as_deref()
    }

    /// Begins to work off orders.
    pub(super) async fn start(&self, inner: &Arc<Inner>, job: &Arc<Job>, place: Place) {
        let (sender, orders) = mpsc::unbounded_channel();
        *self.orders.lock() = Some(sender);
        *self.place.lock() = Some(place);
        let worker = Worker {
            inner: inner.clone(),
            origin: self.origin.clone(),
            job: Arc::downgrade(job),
            id: job.id.clone(),
            file_id: job.file_id.clone(),
            seen: HashSet::new(),
            names: HashSet::new(),
            kept: Vec::new(),
            count: 0,
        };
        *self.idle.lock().await = Some(tokio::spawn(worker.run(orders)));
    }

    /// It runs in a ComfyUI that has its temporary files there.
    pub(super) fn runs_with(&self, temp_dir: &Path, client: &Client) {
        if let Some(place) = &mut *self.place.lock() {
            place.temp_dir = temp_dir.to_path_buf();
            if let Some((asked, _)) = &mut place.asked {
                *asked = client.clone();
            }
        }
    }

    /// A node has finished with this output.
    fn node_finished(&self, node: &str, output: Value) {
        self.told.fetch_add(1, Ordering::Relaxed);
        let Some(place) = self.place.lock().clone() else {
            return;
        };
        self.order(Order::Node {
            node: node.to_owned(),
            output,
            place,
        });
    }

    /// What was kept so far belongs to a run that is done once more.
    pub(super) fn withdraw(&self) {
        self.told.store(0, Ordering::Relaxed);
        self.order(Order::Withdraw);
    }

    /// Keeps the files of the result, those that are not kept yet; the answer is in their order.
    pub(super) async fn results(
        &self,
        files: &[OutputFile],
    ) -> Result<Vec<AssetRecord>, StoreError> {
        let Some(told) = self.order_results(files) else {
            return Ok(Vec::new());
        };
        let assets = told
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("outputs were not kept".into())))?;
        self.kept.lock().clone_from(&assets);
        Ok(assets)
    }

    /// The same without waiting for it; `urls` is where they were uploaded to. See
    /// [`Keeping::kept`].
    pub(super) fn results_later(&self, files: &[OutputFile], urls: &[String]) {
        *self.later.lock() = self.order_results(files).map(|kept| Later {
            kept,
            urls: urls.to_vec(),
        });
    }

    fn order_results(
        &self,
        files: &[OutputFile],
    ) -> Option<oneshot::Receiver<Result<Vec<AssetRecord>, StoreError>>> {
        let place = self.place.lock().clone()?;
        let (done, told) = oneshot::channel();
        self.order(Order::Results {
            files: files.to_vec(),
            place,
            done,
        });
        Some(told)
    }

    /// After [`Keeping::settled`]: the files of the result that are kept, and where those that
    /// nobody has waited for were uploaded to.
    pub(super) async fn kept(&self, id: &str) -> (Vec<AssetRecord>, Vec<String>) {
        let later = self.later.lock().take();
        let Some(Later { kept, urls }) = later else {
            return (self.kept.lock().clone(), Vec::new());
        };
        match kept.await {
            Ok(Ok(assets)) => (assets, urls),
            Ok(Err(error)) => {
                tracing::warn!(id, %error, "the outputs of a run are not kept");
                (Vec::new(), Vec::new())
            }
            Err(_) => (Vec::new(), Vec::new()),
        }
    }

    /// Waits until all that was reported is kept: its files go elsewhere then. `reported` are the
    /// outputs of the whole run; some of them may not have been told while it ran, because the
    /// websocket was broken then or this process did not live.
    pub(super) async fn caught_up(&self, reported: &[NodeOutput]) {
        if self.told.load(Ordering::Relaxed) < reported.len() {
            for node in reported {
                self.node_finished(&node.node, node.output.clone());
            }
        }
        let (tell, told) = oneshot::channel();
        self.order(Order::Tell(tell));
        let _ = told.await;
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &*self.orders.lock() {
            let _ = orders.send(order);
        }
    }

    /// Waits until all orders are done; there are no more after that.
    pub(super) async fn settled(&self) {
        self.orders.lock().take();
        self.place.lock().take();
        if let Some(worker) = self.idle.lock().await.take() {
            let _ = worker.await;
        }
    }
}
