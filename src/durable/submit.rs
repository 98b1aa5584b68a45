//! From what was asked for to a job that is recorded and runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::live::{Answer, JobView, LiveJob};
use super::request::NewSubmission;
use super::{DurableJobs, Refused, request, supervise};
use crate::error::Failure;
use crate::job::request::Graph;
use crate::job::{PromptRequest, Source};
use crate::store::{NewJob, StoreError, keys};
use crate::telemetry::trace;

/// How long an answer waits while inputs are fetched. For ComfyUI's verdict it waits as long as the
/// pipeline does.
const FETCHING: Duration = Duration::from_secs(2);

/// A job that is about to be recorded.
struct Prepared {
    pub(super) record: NewJob,
    pub(super) source: Source,
    request: Box<PromptRequest>,
}

impl DurableJobs {
    /// Records a job, runs it, and waits for ComfyUI's verdict, but not for ever.
    ///
    /// # Errors
    /// Whatever keeps it from becoming a job: nothing of it is left then.
    pub async fn submit(&self, new: NewSubmission) -> Result<JobView, Refused> {
        let inner = &self.inner;
        // Before anything of it is written beside the record.
        if let Some(key) = &new.key
            && let Some(made) = inner.store.key_made(keys::JOBS, key).await?
        {
            return Err(StoreError::KeyReuse(made).into());
        }
        let prepared = self.prepare(new).await?;
        let (live, verdict) = self.begin_apart(prepared).await?;
        match self.wait_for_verdict(&live, verdict).await {
            Some(refusal) => Err(refusal.into()),
            None => Ok(live.view(inner)),
        }
    }

    /// Records a job and runs it. Whatever comes, it is a job from now on: a refusal of the
    /// pipeline or of ComfyUI is its end.
    ///
    /// # Errors
    /// Whatever keeps it from being recorded.
    pub async fn start(&self, new: NewSubmission) -> Result<Arc<LiveJob>, Refused> {
        let prepared = self.prepare(new).await?;
        let this = self.clone();
        let begun = async move { this.begin(prepared, None).await };
        let begun = tokio::spawn(trace::scope(trace::current(), begun));
        let live = begun
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(live)
    }

    async fn prepare(&self, new: NewSubmission) -> Result<Prepared, Refused> {
        let inner = &self.inner;
        inner.health.accepts(false)?;
        if inner.live.lock().len() >= inner.rules.max_unfinished {
            return Err(StoreError::TooManyJobs.into());
        }
        let id_is_fresh = new.id.is_none();
        let id = new.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut body = new.body;
        body.insert("id".into(), id.clone().into());
        let (mut hashes, missing) = request::assets_of(&body, &inner.store).await?;
        if !missing.is_empty() {
            return Err(Refused::MissingAssets(missing));
        }
        let (stored, blobs) = request::pack(&body, &inner.store).await?;
        hashes.extend(blobs);
        let needs_secrets = body
            .iter()
            .any(|(name, value)| request::is_secret(name, value));
        let mut request = Box::new(PromptRequest::parse(body)?);
        request.warnings.extend(new.warnings);
        request.id_is_callers = false;
        request.id_is_fresh = id_is_fresh;
        request.echo.insert("job_id".into(), id.clone().into());
        let record = NewJob {
            id,
            source: new.source.as_str(),
            metadata: new.metadata.as_ref().map(Value::to_string),
            labels: new.labels,
            priority: new.priority,
            request: stored,
            blobs: hashes,
            needs_secrets,
            base_url: new.base_url,
            key: new.key,
            workflow: new.workflow,
            resumes: true,
            created_at: None,
            trace: trace::current().map(|context| context.to_text()),
        };
        Ok(Prepared {
            record,
            source: new.source,
            request,
        })
    }

    /// Records a run that nobody waits for the end of, runs it, and waits for ComfyUI's verdict;
    /// the graph as ComfyUI has it, if it has it by now. `body` is what `parsed` was read from.
    ///
    /// # Errors
    /// Whatever keeps it from being run: nothing of it is left then.
    pub async fn submit_in_background(
        &self,
        new: NewSubmission,
        parsed: Box<PromptRequest>,
    ) -> Result<Option<Graph>, Refused> {
        let inner = &self.inner;
        inner.health.accepts(false)?;
        if parsed.id_is_callers {
            self.check_id(&parsed.id).await?;
        }
        if inner.live.lock().len() >= inner.rules.max_unfinished {
            return Err(StoreError::TooManyJobs.into());
        }
        let id = parsed.id.to_string();
        let mut body = new.body;
        body.insert("id".into(), id.clone().into());
        // Those that are missing are named by the pipeline, with the input.
        let (mut hashes, _) = request::assets_of(&body, &inner.store).await?;
        let (stored, blobs) = request::pack(&body, &inner.store).await?;
        hashes.extend(blobs);
        let record = NewJob {
            id,
            source: new.source.as_str(),
            metadata: None,
            labels: Vec::new(),
            priority: None,
            request: stored,
            blobs: hashes,
            needs_secrets: body
                .iter()
                .any(|(name, value)| request::is_secret(name, value)),
            base_url: new.base_url,
            key: None,
            workflow: new.workflow,
            resumes: true,
            created_at: None,
            trace: trace::current().map(|context| context.to_text()),
        };
        let prepared = Prepared {
            record,
            source: new.source,
            request: parsed,
        };
        let (live, verdict) = self.begin_apart(prepared).await?;
        match verdict.await {
            Ok(Some(refusal)) => Err(refusal.into()),
            Ok(None) | Err(_) => Ok(live.graph()),
        }
    }

    /// Records it and begins to run it in a task of its own: a client that leaves now leaves a job,
    /// not a record that nobody runs. The verdict comes through the receiver.
    async fn begin_apart(
        &self,
        prepared: Prepared,
    ) -> Result<(Arc<LiveJob>, oneshot::Receiver<Option<Failure>>), StoreError> {
        let this = self.clone();
        let (tell, verdict) = oneshot::channel();
        let begun = async move { this.begin(prepared, Some(tell)).await };
        let begun = tokio::spawn(trace::scope(trace::current(), begun));
        let live = begun
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok((live, verdict))
    }

    /// Without somebody to tell the verdict to, it is answered for already.
    async fn begin(
        &self,
        prepared: Prepared,
        tell: Option<supervise::Verdict>,
    ) -> Result<Arc<LiveJob>, StoreError> {
        let record = self.inner.store.create_job(prepared.record).await?;
        let live = LiveJob::new(record, prepared.source);
        if tell.is_none() {
            live.decide(Answer::Job);
        }
        self.inner.live.lock().insert(live.id.clone(), live.clone());
        supervise::start(
            self.inner.clone(),
            live.clone(),
            Some(prepared.request),
            tell,
        );
        Ok(live)
    }

    /// `None`: it is a job.
    async fn wait_for_verdict(
        &self,
        live: &LiveJob,
        mut verdict: oneshot::Receiver<Option<Failure>>,
    ) -> Option<Failure> {
        if let Ok(told) = timeout(FETCHING, &mut verdict).await {
            return told.ok().flatten();
        }
        if live.is_preparing() && live.decide(Answer::Job) {
            return None;
        }
        verdict.await.ok().flatten()
    }
}
