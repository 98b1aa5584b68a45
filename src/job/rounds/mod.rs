//! Runs a graph and finds its files. Once more where ComfyUI answered from its cache with files
//! that are gone (comfyui.md 5.2), or where it cannot be told whose a file is (F04); on and on
//! while the run goes on under other ids (F27).
//!
//! Graphs that can write under names that we did not make go into ComfyUI one after the other: the
//! next only when the files of the last are in its own folder. All others are not held up.

mod follow;
mod select;
mod submit;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use follow::Ran;
use select::{anew, select};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cleanup::{Age, Claim, FileCleanup, GoingOn, Prefix};
use super::going_on::OldFolders;
use super::guard::RunGuard;
use super::outputs::{Collected, OutputFile};
use super::pipeline::Pipeline;
use super::preprocess::{DownloadReport, PlacedModels, Prepared, Workspace, first_model, names};
use super::request::Graph;
use super::stats::Timeline;
use super::{elsewhere, keep};
use crate::comfy::Comfy;
use crate::comfy::pool::{Need, Place};
use crate::error::{Failure, panicked};
use crate::file_threads;

/// How long the answer to a submitter waits for ComfyUI's verdict, when all that we can check
/// ourselves was checked. With the time for fetching inputs these are the 20 s of v2.md.
const VERDICT: Duration = Duration::from_secs(18);
/// The same where others are in front: their runs may take hours, and ComfyUI is not even asked
/// before.
const TURN: Duration = Duration::from_secs(2);

/// Whoever has submitted the prompt, until it is told that the prompt is taken.
#[derive(Default)]
struct Submitter(Option<oneshot::Sender<Graph>>);

impl Submitter {
    fn answer(&mut self, graph: &Graph) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(graph.clone());
        }
    }

    /// Does what the answer waits for, but only so long: a refusal that comes later is a failure
    /// like any other.
    async fn waits<T>(
        &mut self,
        patience: Duration,
        graph: &Graph,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = Box::pin(work);
        match timeout(patience, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.answer(graph);
                work.await
            }
        }
    }
}

/// What a graph has made.
pub(super) struct Executed {
    /// As ComfyUI got it.
    pub graph: Graph,
    /// To be delivered.
    pub files: Vec<OutputFile>,
    /// `{node_id: [string]}`
    pub texts: Map<String, Value>,
    /// For the answer.
    pub warnings: Vec<String>,
    /// For the statistics.
    pub timeline: Timeline,
    /// Likewise.
    pub downloads: Vec<DownloadReport>,
    /// Removes the files when the last user of the result is gone.
    pub cleanup: Arc<FileCleanup>,
    /// Stops the stages that follow.
    pub cancel: CancellationToken,
}

/// Runs a prepared graph until its files are there.
///
/// # Errors
/// Whatever ended it, or that there is nothing to deliver.
pub(super) async fn execute(
    pipeline: &Pipeline<'_>,
    prepared: Box<Prepared>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Executed, Failure> {
    // What is before and after the long wait has its room only meanwhile: thousands may wait.
    let (mut rounds, inputs) = Box::pin(begin(pipeline, prepared, accepted)).await?;
    let round = rounds.until_complete().await;
    let trace = &pipeline.job.trace;
    trace.executed(&rounds.graph, round.as_ref().err());
    let round = round?;
    Box::pin(over(rounds, round, inputs)).await
}

/// What has to be there as long as ComfyUI works on the graph, and what is to be told then.
struct Inputs {
    workspace: Workspace,
    leases: Vec<Arc<dyn Any + Send + Sync>>,
    downloads: Vec<DownloadReport>,
    warnings: Vec<String>,
}

/// Claims the names under which the graph may write, and has its outputs kept if they are to be.
async fn begin<'a>(
    pipeline: &'a Pipeline<'a>,
    prepared: Box<Prepared>,
    accepted: oneshot::Sender<Graph>,
) -> Result<(Box<Rounds<'a>>, Inputs), Failure> {
    let Prepared {
        graph,
        prefixes,
        workspace,
        leases,
        downloads,
        models,
        warnings,
    } = *prepared;
    let inner = pipeline.inner;
    let graph: Graph = Arc::new(graph);
    let alone = inner.shares_names(&graph, &prefixes);
    let going_on = inner.take_going_on(&pipeline.job.id).map(Box::new);
    let need = need_of(pipeline, &graph).await;
    let model = || first_model(&graph, &inner.comfy.catalogue());
    pipeline.job.trace.model(model);
    let claim = claim_of(pipeline, prefixes, going_on.as_deref()).await?;
    let rounds = Rounds {
        pipeline,
        guard: Arc::new(RunGuard::new(inner.cleaner.clone(), claim.clone())),
        cleanup: Arc::new(FileCleanup::new(inner.cleaner.clone(), claim.clone())),
        claim,
        submitter: Submitter(Some(accepted)),
        queued: false,
        anew: anew(pipeline, &graph),
        graph,
        alone,
        models,
        going_on,
        old_folders: None,
        need,
        next: None,
        runs: 1,
        waits_since: None,
    };
    pipeline.job.submitting.store(true, Ordering::Relaxed);
    rounds.start_keeping().await;
    let inputs = Inputs {
        workspace,
        leases,
        downloads,
        warnings,
    };
    Ok((Box::new(rounds), inputs))
}

/// Selects what is to be delivered of all that was made.
async fn over(
    rounds: Box<Rounds<'_>>,
    round: Box<Round>,
    inputs: Inputs,
) -> Result<Executed, Failure> {
    let Inputs {
        workspace,
        leases,
        downloads,
        mut warnings,
    } = inputs;
    // Nothing reads the inputs any more.
    drop((workspace, leases));
    let Round {
        made,
        received,
        timeline,
        warnings: of_run,
        comfy,
    } = *round;
    warnings.extend(of_run);
    let job = rounds.pipeline.job;
    let cancel = job.outlives_cancelling();
    let selecting = select(&comfy, made, received, &rounds.cleanup, &mut warnings);
    let (files, texts) = tokio::select! {
        selected = selecting => selected?,
        () = cancel.cancelled() => return Err(job.stop_reason()),
    };
    rounds.guard.finish();
    Ok(Executed {
        files,
        texts,
        warnings,
        timeline,
        downloads,
        cleanup: rounds.cleanup.clone(),
        cancel,
        graph: rounds.graph.clone(),
    })
}

/// What the graph asks of its ComfyUI, where there are several.
async fn need_of(pipeline: &Pipeline<'_>, graph: &Graph) -> Need {
    let comfy = &pipeline.inner.comfy;
    if !comfy.several() {
        return Need::default();
    }
    let mut need = Need::of(graph, comfy);
    need.only = match pipeline.job.policy.only {
        Some(only) => Some(only),
        None => elsewhere::holder_of_temporary(graph, comfy).await,
    };
    need
}

/// Claims the names under which the graph may write.
async fn claim_of(
    pipeline: &Pipeline<'_>,
    prefixes: Vec<Prefix>,
    going_on: Option<&GoingOn>,
) -> Result<Arc<Claim>, Failure> {
    let inner = pipeline.inner;
    let claims = inner.claims.clone();
    let entry = pipeline.entry.clone();
    let output_dir = inner.comfy_config.output_dir.clone();
    let temp_dir = inner.comfy.instance(0).temp_dir();
    let age = match going_on {
        Some(one) => Age::Since(one.before.clone()),
        None if pipeline.request.id_is_fresh => Age::Fresh,
        None => Age::Unknown,
    };
    let opening = move || claims.open_aged(prefixes, &output_dir, &temp_dir, entry, age);
    let claim = file_threads::spawn(opening).await;
    claim
        .map(Arc::new)
        .map_err(|_| panicked("claiming the names of outputs"))
}

pub(super) struct Rounds<'a> {
    pub(super) pipeline: &'a Pipeline<'a>,
    graph: Graph,
    pub(super) claim: Arc<Claim>,
    pub(super) guard: Arc<RunGuard>,
    cleanup: Arc<FileCleanup>,
    submitter: Submitter,
    /// A ComfyUI has had it in its queue.
    pub(super) queued: bool,
    /// Nodes that must run anew, beside those that save by a prefix.
    anew: Option<BTreeSet<String>>,
    /// No other graph that shares names may be in ComfyUI.
    alone: bool,
    /// What was placed for it; empty once ComfyUI had another look at that.
    models: PlacedModels,
    /// ComfyUI may have it since before this process began.
    going_on: Option<Box<GoingOn>>,
    old_folders: Option<OldFolders>,
    /// What it needs of a ComfyUI.
    pub(super) need: Need,
    /// Where it goes next, when that is known.
    pub(super) next: Option<Place>,
    /// Runs so far, that of now included: more than one when a ComfyUI was lost.
    pub(super) runs: u32,
    /// When it was queued first, if it has come from another ComfyUI since.
    waits_since: Option<u64>,
}

/// One run of the graph, with all its parts.
struct Round {
    made: Collected,
    received: Vec<OutputFile>,
    timeline: Timeline,
    warnings: Vec<String>,
    comfy: Comfy,
}

impl Rounds<'_> {
    /// Outputs are kept while the run goes on, if that was asked for.
    async fn start_keeping(&self) {
        let (pipeline, request) = (self.pipeline, self.pipeline.request);
        let Some(keeping) = &pipeline.job.keeping else {
            return;
        };
        let place = keep::Place {
            output_dir: self.claim.output_dir.clone(),
            temp_dir: self.claim.temp_dir(),
            results_differ: request.conversion.is_some() || request.archive.is_some(),
            asked: Some((
                pipeline.inner.comfy.instance(0).client.clone(),
                self.cleanup.clone(),
            )),
            guards: vec![self.cleanup.clone(), self.guard.clone()],
        };
        keeping.start(pipeline.inner, pipeline.job, place).await;
    }

    async fn until_complete(&mut self) -> Result<Box<Round>, Failure> {
        let mut submitter = std::mem::take(&mut self.submitter);
        let graph = &self.graph.clone();
        loop {
            if self.alone {
                let turn = self.guard.wait_for_turn(self.pipeline);
                submitter.waits(TURN, graph, turn).await?;
            }
            let queued = submitter.waits(VERDICT, graph, self.submit()).await;
            let (queued, place) = queued?;
            submitter.answer(graph);
            let round = match self.follow(queued, place).await? {
                Ran::Through(round) => round,
                Ran::Elsewhere => continue,
            };
            self.waits_since = None;
            if !self.again(&round) {
                return Ok(round);
            }
            if let Some(keeping) = &self.pipeline.job.keeping {
                keeping.withdraw();
            }
            let claim = self.claim.clone();
            let _ = file_threads::spawn(move || claim.withdraw()).await;
        }
    }

    /// Whether the graph has to run once more. Each time something is different, so this ends.
    fn again(&mut self, round: &Round) -> bool {
        let Round {
            made,
            received,
            timeline,
            ..
        } = round;
        let nothing = received.is_empty() && made.is_empty();
        let gone = (nothing || !made.missing.is_empty()) && timeline.any_cached();
        if !gone && made.stale.is_empty() {
            return false;
        }
        let mut news = self.anew.is_none();
        if made.names_shared && !self.alone {
            self.pipeline
                .inner
                .remember_shared_names(&self.graph, &made.stale);
            self.alone = true;
            news = true;
        }
        let beside = names::not_saving(&self.graph, made.stale.iter());
        let known = self.anew.get_or_insert_default();
        let before = known.len();
        known.extend(beside);
        news || known.len() > before
    }
}
