//! Jobs whose graphs somebody else runs: a fleet behind a broker (fleet.md). What the pipeline does
//! here around that is the same as around a ComfyUI of its own: streams, progress, states, what is
//! kept, the answer.
//!
//! Conversion, archive and upload are done where the graph runs, because the files are there.

mod answer;
mod errand;
mod listening;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use answer::{answer, strings};
use async_trait::async_trait;
use errand::{errand, runnable};
use listening::Listening;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::conversion::Named;
use super::deliver;
use super::deliver::Response;
use super::registry::Job;
use super::request::{Graph, PromptRequest};
use super::service::Inner;
use super::stats::Timeline;
use crate::comfy::message::{Preview, TextMessage};
use crate::error::Failure;
use crate::mailbox::Mailbox;

pub use super::outputs::OutputFile;
pub use super::preprocess::away::decode;
pub use errand::{Errand, Input};

/// An embedded file of more bytes (as text) travels beside the message.
const LARGE: usize = 256 * 1024;

/// How long a submitter is kept waiting for the verdict of a fleet that is idle.
const VERDICT: Duration = Duration::from_secs(2);

/// What is told of a job meanwhile.
#[derive(Debug)]
pub enum Told {
    /// Where it waits: the number of the queue, and what comes first there.
    Queue(u16, u8),
    /// It waits in its queue. `idle`: somebody is about to take it.
    Published {
        /// See above.
        idle: bool,
    },
    /// A message of ComfyUI, with our own id in it.
    Message(TextMessage),
    /// A picture that is being made.
    Preview(Preview),
    /// It is in this state there.
    State(String),
    /// Something else for streams, whose newest says all.
    Stream(String, Value),
    /// An output is here.
    Output(Box<OutputFile>),
    /// What was told of outputs so far is not part of the result.
    Withdrawn,
    /// Whoever had it has gone: it waits again.
    Requeued,
}

/// What came of it.
pub struct Done {
    /// The sync answer of whoever has run it, without files.
    pub answer: Map<String, Value>,
    /// The files of the result.
    pub files: Vec<OutputFile>,
    /// Goes with all that is in it when nobody needs the files any more.
    pub folder: PathBuf,
}

/// Somebody else who runs graphs.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Runs a job to its end. Ends soon after the job is cancelled.
    ///
    /// # Errors
    /// Whatever ended it, or that nobody has taken it.
    async fn run(&self, errand: Box<Errand>, told: Arc<Mailbox<Told>>) -> Result<Done, Failure>;
    /// Whether it is there already, from the process before this one.
    fn has(&self, id: &str) -> bool;
    /// Nobody will ask for it again.
    fn forget(&self, id: &str);
    /// Where the files of a job can be fetched, but for their number; `None` when files have to
    /// travel in the message.
    fn address(&self, job: &Job) -> Option<String>;
    /// The longest message in bytes.
    fn longest(&self) -> usize;
}

/// Runs one prompt elsewhere. `accepted` is told the graph as it was submitted, once it is clear
/// that it is a job.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(
    inner: &Arc<Inner>,
    engine: &dyn Remote,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Box<Map<String, Value>>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    let began = std::time::Instant::now();
    // What is before and after the long wait has its room only meanwhile: thousands may wait.
    let preparing = Box::pin(prepare(inner, engine, job, request, graph));
    let prepared = job.trace.stage("preprocess").around(preparing).await;
    let Prepared {
        shown,
        errand,
        titles,
        mut warnings,
    } = prepared?;
    // Whether the broker takes it is worth waiting for, as ComfyUI's verdict is.
    job.submitting.store(true, Ordering::Relaxed);
    let mut listening = Listening {
        inner,
        job,
        timeline: Timeline::accepted(shown.clone()),
        shown,
        accepted: Some(accepted),
        verdict: None,
    };
    let ended = Box::pin(until_its_end(engine, errand, &mut listening)).await;
    job.trace.executed(&listening.shown, ended.as_ref().err());
    let done = ended.map_err(|failure| titles.in_failure(failure))?;
    listening.accept();
    warnings.extend(titles.in_sentences(strings(done.answer.get("warnings"))));
    let answering = Box::pin(answer(inner, job, request, done, warnings, began));
    job.trace.stage("postprocess").around(answering).await
}

/// A graph that is ready to go.
struct Prepared {
    shown: Graph,
    errand: Box<Errand>,
    titles: Arc<Named>,
    warnings: Vec<String>,
}

async fn prepare(
    inner: &Arc<Inner>,
    engine: &dyn Remote,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Box<Map<String, Value>>,
) -> Result<Prepared, Failure> {
    let prepared = async {
        deliver::check_webhooks(inner, request).await?;
        let runnable = runnable(inner, job, request, *graph).await?;
        let shown = Arc::new(runnable.graph.clone());
        let (graph, extra_data) = (runnable.graph, runnable.extra_data);
        let errand = errand(inner, engine, job, request, graph, extra_data).await?;
        Ok(Prepared {
            shown,
            errand: Box::new(errand),
            titles: runnable.titles,
            warnings: runnable.warnings,
        })
    };
    tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(job.stop_reason()),
        prepared = prepared => prepared,
    }
}

/// Shows what is told of a job until it has ended.
async fn until_its_end(
    engine: &dyn Remote,
    errand: Box<Errand>,
    listening: &mut Listening<'_>,
) -> Result<Done, Failure> {
    let told = Arc::new(Mailbox::default());
    let mut running = engine.run(errand, told.clone());
    let ended = loop {
        let verdict = listening.verdict;
        tokio::select! {
            biased;
            news = told.next() => Box::pin(listening.hear(news)).await,
            ended = &mut running => break ended,
            () = at(verdict) => listening.accept(),
        }
    };
    drop(running);
    while let Some(news) = told.take() {
        Box::pin(listening.hear(news)).await;
    }
    ended
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
