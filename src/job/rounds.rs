//! Runs a graph and finds its files. Once more where ComfyUI answered from its cache with files that are gone (comfyui.md 5.2), or
//! where it cannot be told whose a file is (F04); on and on while the run goes on under other ids (F27).
//!
//! Graphs that can write under names that we did not make go into ComfyUI one after the other: the next only when the files of
//! the last are in its own folder. All others are not held up.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::cleanup::{Age, Claim, FileCleanup, GoingOn, Record};
use super::continuation::{self, Family};
use super::elsewhere;
use super::event::JobEvent;
use super::execution::{self, Execution, Followed, Queued};
use super::going_on::{self, OldFolders};
use super::guard::RunGuard;
use super::keep;
use super::outputs::{self, Collected, OutputFile, ReceivedImages, RunFacts};
use super::pipeline::Pipeline;
use super::preprocess::{DownloadReport, PlacedModels, Prepared, first_model, names};
use super::request::Graph;
use super::stats::Timeline;
use crate::comfy::Comfy;
use crate::comfy::pool::{Need, Place};
use crate::comfy::watch::Watcher;
use crate::error::{Code, Failure, panicked};
use crate::events::PromptRef;

/// How long the answer to a submitter waits for ComfyUI's verdict, when all that we can check ourselves was checked. With the time
/// for fetching inputs these are the 20 s of v2.md.
const VERDICT: Duration = Duration::from_secs(18);
/// The same where others are in front: their runs may take hours, and ComfyUI is not even asked before.
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

    /// Does what the answer waits for, but only so long: a refusal that comes later is a failure like any other.
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
    prepared: Prepared,
    accepted: oneshot::Sender<Graph>,
) -> Result<Executed, Failure> {
    let Prepared {
        graph,
        prefixes,
        workspace,
        leases,
        downloads,
        models,
        mut warnings,
    } = prepared;
    let inner = pipeline.inner;
    let graph: Graph = Arc::new(graph);
    let share_names = inner.shares_names(&graph, &prefixes);
    let going_on = inner.take_going_on(&pipeline.job.id);
    let mut need = Need::default();
    if inner.comfy.several() {
        need = Need::of(&graph, &inner.comfy);
        need.only = match pipeline.job.policy.only {
            Some(only) => Some(only),
            None => elsewhere::holder_of_temporary(&graph, &inner.comfy).await,
        };
    }
    let model = || first_model(&graph, &inner.comfy.catalogue());
    pipeline.job.trace.model(model);
    let claim = {
        let claims = inner.claims.clone();
        let entry = pipeline.entry.clone();
        let output_dir = inner.comfy_config.output_dir.clone();
        let temp_dir = inner.comfy.instance(0).temp_dir();
        let age = match &going_on {
            Some(one) => Age::Since(one.before.clone()),
            None if pipeline.request.id_is_fresh => Age::Fresh,
            None => Age::Unknown,
        };
        let opening = move || claims.open_aged(prefixes, &output_dir, &temp_dir, entry, age);
        let claim = tokio::task::spawn_blocking(opening).await;
        Arc::new(claim.map_err(|_| panicked("claiming the names of outputs"))?)
    };
    let cleanup = Arc::new(FileCleanup::new(inner.cleaner.clone(), claim.clone()));
    let mut rounds = Rounds {
        pipeline,
        graph: &graph,
        guard: Arc::new(RunGuard::new(inner.cleaner.clone(), claim.clone())),
        claim,
        cleanup: &cleanup,
        submitter: Submitter(Some(accepted)),
        queued: false,
        anew: anew(pipeline, &graph),
        alone: share_names,
        models,
        going_on,
        old_folders: None,
        need,
        next: None,
        runs: 1,
        waits_since: None,
    };
    pipeline.job.submitting.store(true, Ordering::Relaxed);
    if let Some(keeping) = &pipeline.job.keeping {
        let request = pipeline.request;
        let place = keep::Place {
            output_dir: rounds.claim.output_dir.clone(),
            temp_dir: rounds.claim.temp_dir(),
            results_differ: request.conversion.is_some() || request.archive.is_some(),
            asked: Some((inner.comfy.instance(0).client.clone(), cleanup.clone())),
            guards: vec![cleanup.clone(), rounds.guard.clone()],
        };
        keeping.start(inner, pipeline.job, place).await;
    }
    let round = rounds.until_complete().await;
    let trace = &pipeline.job.trace;
    trace.executed(&graph, round.as_ref().err());
    let round = round?;
    // Nothing reads the inputs any more.
    drop((workspace, leases));
    let Round {
        made,
        received,
        timeline,
        warnings: of_run,
        comfy,
    } = round;
    warnings.extend(of_run);
    let cancel = pipeline.job.outlives_cancelling();
    let selecting = select(&comfy, made, received, &cleanup, &mut warnings);
    let (files, texts) = tokio::select! {
        selected = selecting => selected?,
        () = cancel.cancelled() => return Err(pipeline.job.stop_reason()),
    };
    rounds.guard.finish();
    Ok(Executed {
        files,
        texts,
        warnings,
        timeline,
        downloads,
        cleanup,
        cancel,
        graph,
    })
}

/// The nodes that must run although ComfyUI knows their results. Of a kept job these are its previews too: their files went with
/// the job that made them.
fn anew(pipeline: &Pipeline<'_>, graph: &Graph) -> Option<BTreeSet<String>> {
    let mut nodes = BTreeSet::new();
    if pipeline.job.keeping.is_some() {
        let catalogue = pipeline.inner.comfy.catalogue();
        let is_output = |node: &Value| {
            let class = node.get("class_type").and_then(Value::as_str);
            class.is_some_and(|class| catalogue.is_output(class))
        };
        let outputs = graph.iter().filter(|(_, node)| is_output(node));
        nodes = names::not_saving(graph, outputs.map(|(id, _)| id));
    }
    (pipeline.job.repeated || !nodes.is_empty()).then_some(nodes)
}

/// Outputs; where there are none, previews; where there are none either, texts (U1).
async fn select(
    comfy: &Comfy,
    made: Collected,
    received: Vec<OutputFile>,
    cleanup: &Arc<FileCleanup>,
    warnings: &mut Vec<String>,
) -> Result<(Vec<OutputFile>, Map<String, Value>), Failure> {
    let mut files = made.files;
    files.extend(received);
    let mut missing = made.missing;
    if files.is_empty() {
        files = made.previews;
        for file in made.elsewhere {
            let what = format!("node {} reported the file \"{}\"", file.node, file.filename);
            match outputs::view(&comfy.client, file, cleanup).await {
                Ok(file) => files.push(file),
                Err(reason) => missing.push(format!("{what}, which cannot be had: {reason}")),
            }
        }
    }
    if files.is_empty() && made.texts.is_empty() {
        let reasons = [missing, std::mem::take(warnings)].concat();
        let why = if reasons.is_empty() {
            "no node has saved a file".to_owned()
        } else {
            reasons.join("; ")
        };
        return Err(Failure::new(
            Code::ExecutionError,
            format!("ComfyUI finished the prompt, but there is no output to deliver: {why}"),
        ));
    }
    warnings.extend(missing);
    Ok((files, made.texts))
}

pub(super) struct Rounds<'a> {
    pub(super) pipeline: &'a Pipeline<'a>,
    graph: &'a Graph,
    pub(super) claim: Arc<Claim>,
    pub(super) guard: Arc<RunGuard>,
    cleanup: &'a Arc<FileCleanup>,
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
    going_on: Option<GoingOn>,
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

/// What one run came to.
enum Ran {
    Through(Box<Round>),
    /// Once more, in another ComfyUI.
    Elsewhere,
}

/// One run of the graph, with all its parts.
struct Round {
    made: Collected,
    received: Vec<OutputFile>,
    timeline: Timeline,
    warnings: Vec<String>,
    comfy: Comfy,
}

/// What all parts of a run have made, and what they warn of.
type Parts = (Collected, Vec<OutputFile>, Vec<String>);

impl Rounds<'_> {
    async fn until_complete(&mut self) -> Result<Round, Failure> {
        let mut submitter = std::mem::take(&mut self.submitter);
        let graph = self.graph;
        loop {
            if self.alone {
                let turn = self.guard.wait_for_turn(self.pipeline);
                submitter.waits(TURN, graph, turn).await?;
            }
            let queued = submitter.waits(VERDICT, graph, self.submit()).await;
            let (queued, place) = queued?;
            submitter.answer(graph);
            let round = match self.follow(queued, place).await? {
                Ran::Through(round) => *round,
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
            let _ = tokio::task::spawn_blocking(move || claim.withdraw()).await;
        }
    }

    /// A run of the graph that is in ComfyUI: one that is there since before this process began, else a new one.
    async fn submit(&mut self) -> Result<(Queued, Arc<Place>), Failure> {
        let Pipeline { inner, job, .. } = self.pipeline;
        self.guard.arm(true);
        let (queued, place) = match self.watched_on().await? {
            Some(queued) => queued,
            None => self.submit_anew().await?,
        };
        place.accepted();
        job.tell(&JobEvent::Accepted {
            comfy_id: queued.comfy_id().to_owned(),
            graph: self.graph.clone(),
        });
        let catalogue = inner.comfy.catalogue();
        job.track(self.graph, |class| catalogue.is_output(class));
        inner.jobs.accepted(job);
        if !std::mem::replace(&mut self.queued, true) {
            info!(id = %job.id, comfyui_id = %queued.comfy_id(), instance = place.comfy.label(), source = job.source.as_str(), nodes = self.graph.len(), "prompt queued");
        }
        Ok((queued, place))
    }

    /// The run that an earlier process has left in ComfyUI, if it is still there or has ended there.
    async fn watched_on(&mut self) -> Result<Option<(Queued, Arc<Place>)>, Failure> {
        let Pipeline { inner, job, .. } = self.pipeline;
        let Some(going_on) = self.going_on.take() else {
            return Ok(None);
        };
        let found = match going_on::still_there(&inner.comfy, &going_on).await {
            Ok(found) => found,
            Err(error) => {
                inner.put_back_going_on(going_on);
                return Err(error.into());
            }
        };
        let run = found.as_ref().map(|(_, run)| run.as_str());
        let old = going_on::take_over(&inner.cleaner, going_on, &self.pipeline.entry, run);
        self.old_folders = Some(old.await);
        let Some((comfy, run)) = found else {
            // What it has written is of no use to the run that comes.
            let claim = self.claim.clone();
            let _ = tokio::task::spawn_blocking(move || claim.sweep()).await;
            return Ok(None);
        };
        info!(id = %job.id, comfyui_id = run, instance = comfy.label(), "prompt is still in ComfyUI; it is watched on");
        let elsewhere = self.need.only.replace(comfy.index());
        let place = Arc::new(self.place().await?);
        self.need.only = elsewhere;
        let watcher = self.adopt(&comfy, run);
        let held = Arc::new((self.guard.clone(), place.clone()));
        Ok(Some((Queued::adopted(watcher, self.graph, held), place)))
    }

    /// Watches a run that we have not submitted.
    fn adopt(&self, comfy: &Comfy, run: String) -> Watcher {
        let job = self.pipeline.job;
        let prompt = PromptRef {
            id: job.id.clone(),
            published: job.policy.published,
            context: job.trace.context().cloned(),
        };
        comfy.watch.adopt(run, prompt, job.streams.read.clone())
    }

    async fn submit_anew(&mut self) -> Result<(Queued, Arc<Place>), Failure> {
        let Pipeline {
            job,
            request,
            extra_data,
            entry,
            ..
        } = self.pipeline;
        let marked = self.anew.as_ref().map(|beside| {
            let mut marked = Map::clone(self.graph);
            names::make_unique(&mut marked, beside);
            marked
        });
        job.reached.submitted.cancel();
        let fields = self.fields(&request.submit);
        loop {
            let place = Arc::new(self.place().await?);
            let submitting = execution::submit(
                &place.comfy,
                job,
                marked.as_ref().unwrap_or(self.graph),
                extra_data.as_ref(),
                &fields,
                entry,
                Arc::new((self.guard.clone(), place.clone())),
            );
            match submitting.await {
                Ok(queued) => {
                    self.need.not.clear();
                    return Ok((queued, place));
                }
                Err(failure) if self.sees_more(&place.comfy, &failure).await => {}
                Err(failure) if self.goes_on_after(&place, &failure) => {}
                Err(failure) => {
                    self.guard.arm(failure.code != Code::InvalidPrompt);
                    return Err(self.not_taken(failure));
                }
            }
        }
    }

    /// Whether ComfyUI has refused the graph for a model that we have placed, and sees it now (A54). Asked once.
    async fn sees_more(&mut self, comfy: &Comfy, failure: &Failure) -> bool {
        let models = std::mem::take(&mut self.models);
        match &failure.node_errors {
            Some(errors) if failure.code == Code::InvalidPrompt => {
                models.shown_again(comfy, errors).await
            }
            _ => false,
        }
    }

    /// Follows a run to its end, through all its parts, and collects what they have made.
    async fn follow(&mut self, queued: Queued, place: Arc<Place>) -> Result<Ran, Failure> {
        let comfy = place.comfy.clone();
        let mut timeline = Timeline::accepted(self.graph.clone());
        timeline.in_instance(comfy.label());
        match self.waits_since {
            Some(since) => timeline.waits_since(since),
            None => self.waits_since = Some(timeline.accepted_at()),
        }
        let followed = self.follow_parts(queued, place, &mut timeline).await;
        let trace = &self.pipeline.job.trace;
        if trace.is_recorded() {
            trace.ran(timeline.began(), timeline.node_runs());
        }
        Ok(match followed? {
            Some((made, received, warnings)) => Ran::Through(Box::new(Round {
                made,
                received,
                timeline,
                warnings,
                comfy,
            })),
            None => Ran::Elsewhere,
        })
    }

    /// `None`: once more, in another ComfyUI.
    async fn follow_parts(
        &mut self,
        mut queued: Queued,
        place: Arc<Place>,
        timeline: &mut Timeline,
    ) -> Result<Option<Parts>, Failure> {
        let Pipeline {
            inner, job, entry, ..
        } = self.pipeline;
        let comfy = place.comfy.clone();
        let mut received = ReceivedImages::new(job.file_id.clone(), self.cleanup.clone());
        let mut made = Collected::default();
        let mut warnings = Vec::new();
        let mut family = Family {
            graph: self.graph.clone(),
            client_id: queued.client_id().to_owned(),
            parts: HashSet::new(),
        };
        loop {
            let comfy_id = queued.comfy_id().to_owned();
            family.parts.insert(comfy_id.clone());
            let followed =
                execution::follow(&place, &inner.jobs, job, queued, timeline, &mut received);
            let execution = match followed.await {
                Ok(Followed::Done(execution)) => execution,
                Ok(Followed::Moved) => {
                    self.next = place.over();
                    return Ok(None);
                }
                Ok(Followed::Lost { failure, counts }) => {
                    drop(place);
                    if let Err(failure) = self.lost(failure, counts).await {
                        self.give_up(&comfy, &failure, family);
                        return Err(failure);
                    }
                    return Ok(None);
                }
                Err(failure) => {
                    self.give_up(&comfy, &failure, family);
                    return Err(failure);
                }
            };
            inner.history_cleanup[comfy.index()].forget(comfy_id);
            let Execution {
                outputs,
                failure,
                warnings: of_part,
            } = execution;
            warnings.extend(of_part);
            if let Some(keeping) = &job.keeping {
                keeping.caught_up(&outputs).await;
            }
            let goes_on = failure.is_none() && continuation::announced(&outputs);
            let facts = RunFacts {
                graph: self.graph.clone(),
                claim: self.claim.clone(),
                cached: timeline.cached().clone(),
                alone: self.alone,
                has_files: received.any() || !made.files.is_empty(),
                goes_on,
            };
            let cleanup = self.cleanup.clone();
            let collecting =
                tokio::task::spawn_blocking(move || outputs::collect(&outputs, &facts, &cleanup));
            let collected = collecting.await;
            made.add(
                collected.map_err(|_| panicked(&format!("collecting for prompt {}", job.id)))?,
            );
            if let Some(failure) = failure {
                self.give_up(&comfy, &failure, family);
                return Err(failure);
            }
            if !goes_on {
                break;
            }
            timeline.goes_on();
            let next = continuation::next(&comfy, job, &family).await;
            let next = next.inspect_err(|failure| self.give_up(&comfy, failure, family.clone()))?;
            entry.note_later(Record::Run { id: next.clone() }).await;
            let held = Arc::new((self.guard.clone(), place.clone()));
            queued = Queued::adopted(self.adopt(&comfy, next), self.graph, held);
        }
        Ok(Some((made, received.into_files()?, warnings)))
    }

    /// Nobody follows the parts any more that may come. Does not wait for it.
    fn give_up(&self, comfy: &Comfy, failure: &Failure, family: Family) {
        if failure.code == Code::ComfyuiUnavailable {
            return;
        }
        let (comfy, guard) = (comfy.clone(), self.guard.clone());
        self.pipeline.inner.tasks.spawn(async move {
            continuation::give_up(&comfy, family).await;
            drop(guard);
        });
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
                .remember_shared_names(self.graph, &made.stale);
            self.alone = true;
            news = true;
        }
        let beside = names::not_saving(self.graph, made.stale.iter());
        let known = self.anew.get_or_insert_default();
        let before = known.len();
        known.extend(beside);
        news || known.len() > before
    }
}
