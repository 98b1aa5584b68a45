//! Jobs whose graphs somebody else runs: a fleet behind a broker (fleet.md). What the pipeline does here around that is the same as
//! around a ComfyUI of its own: streams, progress, states, what is kept, the answer.
//!
//! Conversion, archive and upload are done where the graph runs, because the files are there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::cleanup::FileCleanup;
use super::conversion::{self, Runnable};
use super::deliver::{self, Images, Outcome, Response};
use super::event::JobEvent;
use super::execution;
pub use super::outputs::OutputFile;
use super::preprocess::away;
pub use super::preprocess::away::decode;
use super::registry::{Job, Status};
use super::request::{Graph, PromptRequest};
use super::service::Inner;
use super::stream::Weight;
use super::{asset_input, keep, pipeline, preprocess};
use crate::comfy::message::{Preview, TextMessage};
use crate::error::{Code, Failure};
use crate::events::{Source, SystemEvent};
use crate::webhook::Kind;

/// An embedded file of more bytes (as text) travels beside the message.
const LARGE: usize = 256 * 1024;
/// How long a submitter is kept waiting for the verdict of a fleet that is idle.
const VERDICT: Duration = Duration::from_secs(2);

/// A file that a graph needs.
#[derive(Debug, Clone)]
pub enum Input {
    /// Of the store.
    Asset {
        /// Where it is.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Keeps it from eviction.
        held: Arc<dyn std::any::Any + Send + Sync>,
    },
    /// It came with the graph.
    Bytes {
        /// The file.
        bytes: bytes::Bytes,
        /// By its kind.
        name: String,
    },
}

/// A job for somebody else to run.
pub struct Errand {
    /// The job; it is cancelled through it.
    pub job: Arc<Job>,
    /// The body of the message, but for the files that travel beside it.
    pub body: Map<String, Value>,
    /// What [`Remote::address`] stands for, in its order.
    pub inputs: Vec<Input>,
    /// Nothing that a broker may write to its disk.
    pub credentials: Option<Value>,
    /// Likewise.
    pub extra_data: Option<Value>,
    /// `queue`, unchecked.
    pub queue: Option<Value>,
    /// `priority`, unchecked.
    pub priority: Option<Value>,
    /// It goes on although this process ends.
    pub kept: bool,
    /// Files are wanted although they are uploaded.
    pub wants_all: bool,
    /// Somebody looks at previews.
    pub previews: bool,
}

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
    async fn run(&self, errand: Errand, tell: mpsc::UnboundedSender<Told>)
    -> Result<Done, Failure>;
    /// Whether it is there already, from the process before this one.
    fn has(&self, id: &str) -> bool;
    /// Nobody will ask for it again.
    fn forget(&self, id: &str);
    /// Where the files of a job can be fetched, but for their number; `None` when files have to travel in the message.
    fn address(&self, job: &Job) -> Option<String>;
    /// The longest message in bytes.
    fn longest(&self) -> usize;
}

/// Runs one prompt elsewhere. `accepted` is told the graph as it was submitted, once it is clear that it is a job.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(
    inner: &Arc<Inner>,
    engine: &dyn Remote,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Map<String, Value>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    let began = std::time::Instant::now();
    let prepared = async {
        deliver::check_webhooks(inner, request).await?;
        let runnable = runnable(inner, job, request, graph).await?;
        let shown = Arc::new(runnable.graph.clone());
        let errand = errand(
            inner,
            engine,
            job,
            request,
            runnable.graph,
            runnable.extra_data,
        );
        let errand = errand.await?;
        Ok::<_, Failure>((shown, errand, runnable.titles, runnable.warnings))
    };
    let prepared = async {
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(job.stop_reason()),
            prepared = prepared => prepared,
        }
    };
    let mut preparing = job.trace.stage("preprocess");
    let (shown, errand, titles, mut warnings) = preparing.around(prepared).await?;
    drop(preparing);
    let mut listening = Listening {
        inner,
        job,
        shown,
        accepted: Some(accepted),
        verdict: None,
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let ended = {
        let running = engine.run(errand, tell);
        tokio::pin!(running);
        loop {
            let verdict = listening.verdict;
            tokio::select! {
                biased;
                Some(news) = told.recv() => listening.hear(news).await,
                ended = &mut running => break ended,
                () = at(verdict) => listening.accept(),
            }
        }
    };
    while let Ok(news) = told.try_recv() {
        listening.hear(news).await;
    }
    job.trace.executed(&listening.shown, ended.as_ref().err());
    let done = ended.map_err(|failure| titles.in_failure(failure))?;
    listening.accept();
    warnings.extend(titles.in_sentences(strings(done.answer.get("warnings"))));
    let answering = answer(inner, job, request, done, warnings, began);
    job.trace.stage("postprocess").around(answering).await
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What goes to the fleet: as a graph where its nodes are known here, else as it was sent.
async fn runnable(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    graph: Map<String, Value>,
) -> Result<Runnable, Failure> {
    match &request.workflow {
        Some(workflow) if inner.comfy.node_classes().is_none() => Ok(Runnable {
            graph: Map::clone(workflow),
            extra_data: request.extra_data.clone(),
            warnings: Vec::new(),
            titles: Arc::default(),
        }),
        _ => conversion::runnable(inner, job, request, graph).await,
    }
}

async fn errand(
    inner: &Inner,
    engine: &dyn Remote,
    job: &Arc<Job>,
    request: &PromptRequest,
    mut graph: Map<String, Value>,
    extra_data: Option<Value>,
) -> Result<Errand, Failure> {
    let address = engine.address(job);
    let mut inputs = Vec::new();
    let store = &inner.store;
    let mut embedding = Vec::new();
    let catalogue = inner.comfy.catalogue();
    let text_means = |class: &str, input: &str| preprocess::text_means(class, input, &catalogue);
    asset_input::give_addresses(&mut graph, store, text_means, |asset, path| {
        let name = asset.file_path.rsplit('/').next().unwrap_or("input");
        let Some(address) = &address else {
            embedding.push((path, asset.content_type.clone()));
            return format!("\u{0}{}", embedding.len() - 1);
        };
        let held = asset.hash.as_deref().map(|hash| store.hold(hash));
        store.used_now(asset);
        inputs.push(Input::Asset {
            path,
            name: name.to_owned(),
            held: Arc::new(held),
        });
        format!("{address}{}", inputs.len() - 1)
    })
    .await?;
    for (number, (path, content_type)) in embedding.into_iter().enumerate() {
        let bytes = tokio::fs::read(&path).await.map_err(|error| {
            Failure::new(Code::Internal, format!("an asset cannot be read: {error}"))
        })?;
        let text = format!(
            "data:{content_type};base64,{}",
            crate::document::base64(&bytes)
        );
        graph
            .values_mut()
            .for_each(|value| put_text(value, &format!("\u{0}{number}"), &text));
    }
    let mut embedded = away::embedded(&mut graph, &catalogue)?;
    embedded.sort_by_key(|file| std::cmp::Reverse(file.length));
    let mut body = request.passed_on.fields.clone();
    let mut length = written(&graph) + written(&body);
    if let Some(address) = &address {
        for file in embedded {
            if file.length <= LARGE && length <= engine.longest() {
                break;
            }
            let Some(place) = file.place_in(&mut graph) else {
                continue;
            };
            let text = place.take();
            let decoding = move || (away::decode(text.as_str().unwrap_or_default()), text);
            let (decoded, text) = tokio::task::spawn_blocking(decoding)
                .await
                .map_err(|_| crate::error::panicked("decoding an embedded file"))?;
            if let Some(place) = file.place_in(&mut graph) {
                *place = match decoded {
                    Some((bytes, extension)) => {
                        length -= file.length;
                        inputs.push(Input::Bytes {
                            bytes: bytes.into(),
                            name: format!("input.{extension}"),
                        });
                        format!("{address}{}", inputs.len() - 1).into()
                    }
                    None => text,
                };
            }
        }
    }
    body.insert("prompt".to_owned(), Value::Object(graph));
    let mut errand = Errand {
        job: job.clone(),
        body,
        inputs,
        credentials: request.passed_on.credentials.clone(),
        extra_data,
        queue: request.passed_on.queue.clone(),
        priority: request.passed_on.priority.clone(),
        kept: job.keeping.is_some() && job.policy.given_back,
        // A legacy webhook carries the files themselves, also of a result that was uploaded.
        wants_all: job.keeping.is_some()
            || request.upload.is_some()
                && request
                    .webhooks
                    .iter()
                    .any(|webhook| webhook.kind == Kind::Legacy),
        previews: job.streams.has_readers(),
    };
    if address.is_none() {
        let secrets = [
            ("credentials", errand.credentials.take()),
            ("extra_data", errand.extra_data.take()),
        ];
        for (name, value) in secrets {
            errand
                .body
                .extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    Ok(errand)
}

/// The bytes of a value as JSON.
fn written(value: &Map<String, Value>) -> usize {
    crate::json::length(value).unwrap_or(0)
}

fn put_text(value: &mut Value, mark: &str, text: &str) {
    match value {
        Value::String(known) if known == mark => *value = text.into(),
        Value::Array(items) => items.iter_mut().for_each(|item| put_text(item, mark, text)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|item| put_text(item, mark, text)),
        _ => {}
    }
}

/// Makes of what is told what a run here would show.
struct Listening<'a> {
    inner: &'a Arc<Inner>,
    job: &'a Arc<Job>,
    /// As it was submitted.
    shown: Graph,
    accepted: Option<oneshot::Sender<Graph>>,
    /// When the submitter is told, if nothing was said before.
    verdict: Option<Instant>,
}

impl Listening<'_> {
    /// It is a job from now on.
    fn accept(&mut self) {
        self.verdict = None;
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(self.shown.clone());
        }
    }

    async fn hear(&mut self, told: Told) {
        let (inner, job) = (self.inner, self.job);
        match told {
            Told::Queue(queue, rank) => job.waits_in(queue, rank),
            Told::Published { idle } => {
                self.published().await;
                if job.policy.waits_for_verdict && idle {
                    self.verdict = Some(Instant::now() + VERDICT);
                } else {
                    self.accept();
                }
            }
            Told::Message(message) => self.message(&message),
            Told::Preview(preview) => {
                self.emit("binary_preview", || {
                    let image = crate::document::base64(&preview.image);
                    let data = json!({"prompt_id": &*job.id, "image_type": preview.image_type, "image_data": image});
                    json!({"type": "binary_preview", "data": data})
                });
                execution::show_preview(job, &preview);
            }
            Told::State(state) => match state.as_str() {
                "pending" => self.accept(),
                "running" => self.started(),
                "postprocessing" => drop(job.enter(Status::Postprocessing)),
                "uploading" => drop(job.enter(Status::Uploading)),
                _ => {}
            },
            Told::Stream(name, data) => {
                let weight = if name == "upload_progress" { 21 } else { 20 };
                job.streams.message(Weight::Newest(weight), || {
                    json!({"type": name, "data": data}).to_string()
                });
            }
            Told::Output(file) => {
                if let Some(keeping) = &job.keeping {
                    let kept = keeping.results(std::slice::from_ref(&*file)).await;
                    if let Err(error) = kept {
                        tracing::warn!(id = %job.id, %error, "an output is not kept");
                    }
                }
            }
            Told::Withdrawn => {
                if let Some(keeping) = &job.keeping {
                    keeping.withdraw();
                }
            }
            Told::Requeued => {
                if let Some(keeping) = &job.keeping {
                    keeping.withdraw();
                }
                inner.jobs.requeued(job);
                self.track();
            }
        }
    }

    async fn published(&self) {
        let (inner, job) = (self.inner, self.job);
        if let Some(keeping) = &job.keeping {
            // What nodes report is made elsewhere; its files come in another way.
            let nowhere = PathBuf::from("/nonexistent");
            let place = keep::Place {
                output_dir: nowhere.clone(),
                temp_dir: nowhere,
                results_differ: true,
                asked: None,
                guards: Vec::new(),
            };
            keeping.start(inner, job, place).await;
        }
        job.tell(&JobEvent::Accepted {
            comfy_id: job.id.to_string(),
            graph: self.shown.clone(),
        });
        self.track();
        inner.jobs.accepted(job);
        tracing::info!(id = %job.id, source = job.source.as_str(), nodes = self.shown.len(), "prompt queued");
    }

    fn track(&self) {
        let catalogue = self.inner.comfy.catalogue();
        self.job
            .track(&self.shown, |class| catalogue.is_output(class));
    }

    fn started(&mut self) {
        if matches!(self.job.status(), Status::Preprocessing | Status::Pending) {
            self.inner.jobs.started(self.job);
        }
        self.accept();
    }

    fn emit(&self, name: &str, make: impl FnOnce() -> Value) {
        if self.inner.events.wanted(name) {
            self.inner.events.emit(SystemEvent {
                source: Source::Comfy,
                name: name.into(),
                data: Arc::new(make()),
                prompt: Some(deliver::prompt_ref(self.job)),
            });
        }
    }

    fn message(&mut self, message: &TextMessage) {
        let kind = message.kind.as_str();
        self.emit(kind, || {
            serde_json::from_str(&message.text_with_id(&self.job.id)).unwrap_or_default()
        });
        if matches!(kind, "execution_start" | "executing" | "progress") {
            self.started();
        }
        self.job.observe(message);
        self.job.streams.message(execution::weight(kind), || {
            message.text_with_id(&self.job.id)
        });
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Files of a result that were uploaded and are not here, as they were described.
fn uploaded(answer: &Map<String, Value>) -> Vec<OutputFile> {
    let described = answer.get("outputs").and_then(Value::as_array);
    let described = described.map(Vec::as_slice).unwrap_or_default();
    let file = |(number, filename): (usize, String)| {
        let of = |name: &str| described.get(number).and_then(|one| one.get(name));
        let text = |name: &str| of(name).and_then(Value::as_str).map(str::to_owned);
        OutputFile {
            node_id: text("node_id"),
            output: text("output").unwrap_or_else(|| "images".to_owned()),
            content_type: text("content_type").unwrap_or_default(),
            size: of("size").and_then(Value::as_u64).unwrap_or_default(),
            filename,
            path: PathBuf::new(),
            written_to: PathBuf::new(),
        }
    };
    let names = strings(answer.get("filenames"));
    names.into_iter().enumerate().map(file).collect()
}

/// The answer, from that of whoever has run it.
async fn answer(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    mut done: Done,
    warnings: Vec<String>,
    began: std::time::Instant,
) -> Result<Response, Failure> {
    let keeper = Arc::new(FileCleanup::of_folder(
        inner.cleaner.clone(),
        done.folder.clone(),
    ));
    let graph = match done.answer.remove("prompt") {
        Some(Value::Object(graph)) => Arc::new(graph),
        _ => Arc::new(request.sent()),
    };
    if job.keeping.is_some() {
        job.tell(&JobEvent::Accepted {
            comfy_id: job.id.to_string(),
            graph: graph.clone(),
        });
    }
    let images = match done.answer.get("images") {
        Some(Value::Array(_)) if request.upload.is_some() => {
            Images::Urls(strings(done.answer.get("images")))
        }
        _ => Images::Inline,
    };
    if let Images::Urls(urls) = &images {
        deliver::announce(inner, job, urls, began);
    }
    let images = pipeline::keep(job, &done.files, images).await?;
    if done.files.is_empty() {
        done.files = uploaded(&done.answer);
    }
    let texts = match done.answer.remove("texts") {
        Some(Value::Object(texts)) => texts,
        _ => Map::new(),
    };
    let outcome = Outcome {
        images,
        handed: None,
        files: done.files,
        texts,
        warnings: [request.warnings.clone(), warnings].concat(),
        stats: done.answer.remove("stats").unwrap_or_default(),
    };
    Ok(Response::new(request, graph, outcome, keeper))
}
