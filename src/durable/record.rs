//! Runs that are kept but end with the process: a record beside a job of any transport, written
//! behind its back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{DurableJobs, address};
use crate::error::{Code, Failure};
use crate::job::registry::Status;
use crate::job::witness::{Ended, Summary};
use crate::job::{JobEvent, Keep, Listener, Source};
use crate::store::jobs::JobUpdate;
use crate::store::{JobStatus, NewJob, Store, now_ms};

/// A run that is to be kept.
pub struct NewRun {
    /// Its id.
    pub id: String,
    /// Whether its client chose the id.
    pub id_is_callers: bool,
    /// The transport.
    pub source: Source,
    /// The workflow endpoint that its graph comes from.
    pub workflow: Option<String>,
    /// The request as it is shown.
    pub request: String,
    /// What absolute addresses begin with.
    pub base_url: String,
    /// `images` hold addresses.
    pub by_address: bool,
}

/// Writes the record of a run.
pub struct Recorder {
    store: Store,
    id: String,
    created_at: i64,
    started_at: AtomicI64,
    new: Mutex<Option<NewJob>>,
}

impl DurableJobs {
    /// What a run needs to be kept. The record begins with [`Recorder::begin`], or with the first
    /// thing that happens to the run.
    ///
    /// # Errors
    /// 409 when its id is that of a job of the store, which nobody may write over.
    pub async fn keep_run(&self, run: NewRun) -> Result<(Arc<Keep>, Arc<Recorder>), Failure> {
        if run.id_is_callers {
            self.check_id(&run.id).await?;
        }
        let (store, lives) = (self.inner.store.clone(), self.inner.rules.address_lives);
        let created_at = now_ms();
        let base = run.base_url.clone();
        let signer = store.clone();
        let keep = Keep {
            address: Box::new(move |asset| address(&signer, lives, &base, asset).0),
            by_address: run.by_address,
            is_job: false,
            created_at: u64::try_from(created_at).ok(),
        };
        let recorder = Recorder {
            id: run.id.clone(),
            created_at,
            started_at: AtomicI64::new(0),
            new: Mutex::new(Some(NewJob {
                id: run.id,
                source: run.source.as_str(),
                metadata: None,
                labels: Vec::new(),
                priority: None,
                request: run.request,
                blobs: Vec::new(),
                needs_secrets: false,
                base_url: run.base_url,
                key: None,
                workflow: run.workflow,
                resumes: false,
                created_at: Some(created_at),
                // It does not go on in another process.
                trace: None,
            })),
            store,
        };
        Ok((Arc::new(keep), Arc::new(recorder)))
    }

    /// An id that a client has chosen may come again, but not while a job of the store has it that
    /// others rely on.
    pub(super) async fn check_id(&self, id: &str) -> Result<(), Failure> {
        let taken = |why: &str| {
            let shown = crate::limits::text::quoted(id);
            let message = format!("the id \"{shown}\" is that of {why}: use another id");
            Err(Failure::new(Code::Conflict, message).at("id"))
        };
        if self.inner.live.lock().contains_key(id) {
            return taken("a run that has not ended");
        }
        match self.inner.store.job(id).await {
            Ok(Some(record)) if is_job(&record.source) => taken("a job of the store"),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(
                Code::Internal,
                format!("the store cannot be read: {error}"),
            )),
        }
    }
}

/// Whether jobs of this transport are those of `/api/v2/jobs`.
pub fn is_job(source: &str) -> bool {
    [Source::V2, Source::Mcp]
        .iter()
        .any(|known| known.as_str() == source)
}

impl Recorder {
    /// The record begins, if it has not.
    pub fn begin(&self) {
        let Some(new) = self.new.lock().take() else {
            return;
        };
        let id = self.id.clone();
        self.store.create_run_later(new, move |error| {
            tracing::warn!(id, %error, "a run is not kept");
        });
    }

    /// Whoever follows the run for the record.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let recorder = self.clone();
        Arc::new(move |event| recorder.note(event))
    }

    fn note(&self, event: &JobEvent) {
        match event {
            JobEvent::State(Status::Running) => {
                self.begin();
                let now = now_ms();
                self.started_at.store(now, Ordering::Relaxed);
                self.write(JobStatus::Running, Some(now), None, None);
            }
            JobEvent::Accepted { comfy_id, graph } => {
                self.begin();
                let graph = serde_json::to_string(&**graph).unwrap_or_default();
                self.store.job_accepted(&self.id, comfy_id.clone(), graph);
            }
            JobEvent::Uploaded(urls) if !urls.is_empty() => {
                self.store.outputs_uploaded(urls.clone());
            }
            JobEvent::Ended(ended) => {
                self.begin();
                let status = match &ended.result {
                    Ok(_) => JobStatus::Succeeded,
                    Err(failure) if failure.code == Code::ExecutionInterrupted => {
                        JobStatus::Canceled
                    }
                    Err(_) => JobStatus::Failed,
                };
                let started = self.started_at.load(Ordering::Relaxed);
                let started = (started > 0).then_some(started);
                let finished = ended
                    .snapshot
                    .finished_at
                    .and_then(|at| i64::try_from(at).ok());
                let completed = finished.unwrap_or_else(now_ms);
                self.write(status, started, Some(completed), Some(ended));
            }
            _ => {}
        }
    }

    fn write(
        &self,
        status: JobStatus,
        started_at: Option<i64>,
        completed_at: Option<i64>,
        ended: Option<&Ended>,
    ) {
        let failure = ended.and_then(|ended| ended.result.as_ref().err());
        let error = failure.map(|failure| {
            json!({"code": failure.code.as_str(), "message": failure.message}).to_string()
        });
        let count = ended.and_then(|ended| ended.result.as_ref().ok());
        let count = count.map_or(0, |summary| summary.outputs.len());
        let update = JobUpdate {
            status,
            started_at,
            completed_at,
            error,
            attempts: 1,
            outputs_reused: false,
            outputs_count: i64::try_from(count).unwrap_or(i64::MAX),
            progress: None,
        };
        let result = ended.map(result_text);
        self.store
            .update_run(&self.id, self.created_at, update, result);
    }
}

fn outputs(summary: &Summary) -> Value {
    let files = summary.outputs.iter().map(|file| {
        json!({
            "node_id": file.node_id,
            "filename": file.filename,
            "content_type": file.content_type,
            "size": file.size,
            "asset_id": file.asset_id,
        })
    });
    files.collect::<Vec<_>>().into()
}

/// What was delivered, for a record that has the rest already.
pub(super) fn outputs_text(ended: &Ended) -> Option<String> {
    let summary = ended.result.as_ref().ok()?;
    Some(json!({"outputs": outputs(summary)}).to_string())
}

/// What a record holds of an end, as JSON: `outputs`, `stats`, `texts`, `warnings`, `error`.
fn result_text(ended: &Ended) -> String {
    let result = match &ended.result {
        Ok(summary) => json!({
            "outputs": outputs(summary),
            "stats": &*summary.stats,
            "texts": summary.texts,
            "warnings": summary.warnings,
        }),
        Err(failure) => json!({"error": Value::Object(failure.body())}),
    };
    result.to_string()
}
