//! What was run: one list of what is remembered in memory and of what is kept in the store
//! (console.md, "What is remembered").
//!
//! [`memory`] is told of every run of every transport and forgets the oldest; kept runs have a
//! record in the store as well, which outlives it. A run is shown from memory while it is in flight
//! or its record does not know of its end yet, else from its record.
//!
//! Whoever shows runs as they come follows [`History::changes`], and asks [`History::since`] for
//! those that are new or changed; [`History::shown`] makes them JSON.

mod item;
mod list;
mod memory;
mod query;
mod stored;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

pub use item::RunView;
pub use memory::Memory;
pub use query::{HistoryQuery, Place};

use crate::comfy::pool::Pool;
use crate::durable::DurableJobs;
use crate::error::{Code, Failure};
use crate::job::Service;
use crate::media::Media;
use crate::store::StoreError;
use crate::webhook::Webhooks;

/// How many runs [`History::since`] begins with.
const FIRST: usize = 50;

/// What was run. Cheap to clone.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

struct Inner {
    memory: Arc<Memory>,
    service: Service,
    durable: DurableJobs,
    comfy: Pool,
    media: Media,
    webhooks: Webhooks,
}

impl History {
    /// Reads from these.
    pub fn new(
        memory: Arc<Memory>,
        service: Service,
        durable: DurableJobs,
        comfy: Pool,
        media: Media,
        webhooks: Webhooks,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                memory,
                service,
                durable,
                comfy,
                media,
                webhooks,
            }),
        }
    }

    /// Wakes whenever a run has begun, is in another state, has ended, or was removed. The value
    /// counts up.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.memory.changes()
    }

    /// Runs that are new or in another state since a version, newest first, whole; and the version
    /// they are of. Since `None`: the newest 50 of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn since(&self, version: Option<u64>) -> Result<(u64, Vec<RunView>), Failure> {
        let now = self.inner.memory.version();
        let Some(version) = version else {
            let query = HistoryQuery {
                limit: FIRST,
                ..HistoryQuery::default()
            };
            return Ok((now, self.list(query).await?.0));
        };
        Ok((now, self.inner.changed_since(version)))
    }

    /// One page, newest first, and where the next begins.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        query: HistoryQuery,
    ) -> Result<(Vec<RunView>, Option<Place>), Failure> {
        list::page(&self.inner, query).await.map_err(unreadable)
    }

    /// One run with everything that is known of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<RunView>, Failure> {
        list::one(&self.inner, id).await.map_err(unreadable)
    }

    /// Forgets an ended run, its record and the outputs that nobody else uses; `false` when there
    /// is none.
    ///
    /// # Errors
    /// 409 while it has not ended; when the store cannot be written.
    pub async fn delete(&self, id: &str) -> Result<bool, Failure> {
        let in_flight =
            self.inner.service.job(id).is_some() || self.inner.durable.live_run(id).is_some();
        if in_flight {
            let shown = crate::limits::text::quoted(id);
            let message =
                format!("run \"{shown}\" has not ended: cancel it with DELETE /prompt/<id> first");
            return Err(Failure::new(Code::Conflict, message));
        }
        let remembered = self.inner.memory.forget(id);
        let store = self.inner.durable.store();
        let recorded = store.delete_runs(vec![id.to_owned()]).await;
        Ok(recorded.map_err(unreadable)? > 0 || remembered)
    }

    /// Forgets all ended runs that a query shows; says how many there were.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn delete_all(&self, query: HistoryQuery) -> Result<usize, Failure> {
        let ids = list::ended(&self.inner, query).await.map_err(unreadable)?;
        for id in &ids {
            self.inner.memory.forget(id);
        }
        let count = ids.len();
        let store = self.inner.durable.store();
        store.delete_runs(ids).await.map_err(unreadable)?;
        Ok(count)
    }

    /// Runs as clients see them, each with its newest webhook; `base` is what absolute addresses
    /// begin with.
    pub async fn shown(&self, runs: &[RunView], base: &str) -> Vec<Value> {
        let inner = &self.inner;
        let videos = runs.iter().any(RunView::has_videos) && inner.media.reads_videos().await;
        let address = |asset: &str| inner.durable.address(base, asset).0;
        let mut deliveries = inner.deliveries(runs);
        let runs = runs.iter().map(|run| {
            let delivery = deliveries.remove(&*run.snapshot.id);
            item::shown(run, &address, videos, delivery)
        });
        runs.collect()
    }
}

impl Inner {
    /// The webhook of each run, as `GET /deliveries` shows it: the newest, of both kinds that with
    /// the result.
    fn deliveries(&self, runs: &[RunView]) -> HashMap<String, Value> {
        let ids: HashSet<&str> = runs.iter().map(|run| &*run.snapshot.id).collect();
        let all = self.webhooks.deliveries().all();
        let mut found: HashMap<String, Value> = HashMap::new();
        for kind in ["v2", "legacy"] {
            for entry in all.iter().filter(|entry| entry.kind == kind) {
                let id = entry.prompt_id.as_deref();
                if let Some(id) = id.filter(|id| ids.contains(id) && !found.contains_key(*id)) {
                    let shown = serde_json::to_value(entry).unwrap_or_default();
                    found.insert(id.to_owned(), shown);
                }
            }
        }
        found
    }
}

fn unreadable(error: StoreError) -> Failure {
    Failure::new(
        Code::Internal,
        format!("the store of runs cannot be used: {error}"),
    )
}
