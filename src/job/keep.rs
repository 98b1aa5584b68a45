//! Keeps the outputs of a job in the store, each as soon as its node has finished (v2.md, "Outputs").
//!
//! Orders are worked off one after the other, beside the run. An order holds the files it speaks of against removal, and the job
//! ends only when all orders are done.

use std::any::Any;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::event::JobEvent;
use super::origin::Origin;
use super::outputs::{self, Elsewhere, FileCleanup, NodeOutput, OutputFile};
use super::policy::Keep;
use super::progress::Tracker;
use super::registry::Job;
use super::service::Inner;
use crate::comfy::client::Client;
use crate::comfy::message::TextMessage;
use crate::config::plain_text;
use crate::media;
use crate::store::assets::NewOutput;
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
    /// Where the nodes' outputs are found, once the graph runs; `None` while nothing is committed node by node.
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
    /// Asked for previews that are not on this machine, with the folder that they are fetched into.
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
        *lock(&self.orders) = Some(sender);
        *lock(&self.place) = Some(place);
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
        if let Some(place) = &mut *lock(&self.place) {
            place.temp_dir = temp_dir.to_path_buf();
            if let Some((asked, _)) = &mut place.asked {
                *asked = client.clone();
            }
        }
    }

    /// A node has finished with this output.
    fn node_finished(&self, node: &str, output: Value) {
        self.told.fetch_add(1, Ordering::Relaxed);
        let Some(place) = lock(&self.place).clone() else {
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
        lock(&self.kept).clone_from(&assets);
        Ok(assets)
    }

    /// The same without waiting for it; `urls` is where they were uploaded to. See [`Keeping::kept`].
    pub(super) fn results_later(&self, files: &[OutputFile], urls: &[String]) {
        *lock(&self.later) = self.order_results(files).map(|kept| Later {
            kept,
            urls: urls.to_vec(),
        });
    }

    fn order_results(
        &self,
        files: &[OutputFile],
    ) -> Option<oneshot::Receiver<Result<Vec<AssetRecord>, StoreError>>> {
        let place = lock(&self.place).clone()?;
        let (done, told) = oneshot::channel();
        self.order(Order::Results {
            files: files.to_vec(),
            place,
            done,
        });
        Some(told)
    }

    /// After [`Keeping::settled`]: the files of the result that are kept, and where those that nobody has waited for were uploaded to.
    pub(super) async fn kept(&self, id: &str) -> (Vec<AssetRecord>, Vec<String>) {
        let later = lock(&self.later).take();
        let Some(Later { kept, urls }) = later else {
            return (lock(&self.kept).clone(), Vec::new());
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

    /// Waits until all that was reported is kept: its files go elsewhere then. `reported` are the outputs of the whole run;
    /// some of them may not have been told while it ran, because the websocket was broken then or this process did not live.
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
        if let Some(orders) = &*lock(&self.orders) {
            let _ = orders.send(order);
        }
    }

    /// Waits until all orders are done; there are no more after that.
    pub(super) async fn settled(&self) {
        lock(&self.orders).take();
        lock(&self.place).take();
        if let Some(worker) = self.idle.lock().await.take() {
            let _ = worker.await;
        }
    }
}

impl Job {
    /// A message of ComfyUI about this job, for progress and outputs.
    pub(super) fn observe(&self, message: &TextMessage) {
        let kind = message.kind.as_str();
        if !matches!(
            kind,
            "execution_cached" | "executing" | "progress" | "executed"
        ) || !(self.listeners.any() || self.keeping.is_some())
        {
            return;
        }
        let mut value = message.value();
        let Some(data) = value.get_mut("data") else {
            return;
        };
        let mut tracker = lock(&self.tracker);
        let progress = tracker
            .as_mut()
            .and_then(|tracker| tracker.message(kind, data));
        if kind == "executed"
            && let Some(keeping) = &self.keeping
            && let Some(output) = data.get_mut("output").map(Value::take)
        {
            let text = |name: &str| data.get(name).and_then(Value::as_str);
            let node = text("node").unwrap_or_default();
            let node = tracker
                .as_ref()
                .map_or(node, |tracker| tracker.node_of(node, text("display_node")));
            keeping.node_finished(node, output);
        }
        drop(tracker);
        if let Some(progress) = progress {
            self.tell(&JobEvent::Progress(progress));
        }
    }

    /// ComfyUI has it.
    pub(super) fn track(&self, graph: &Map<String, Value>, is_output: impl Fn(&str) -> bool) {
        if self.listeners.any() {
            let tracker = Tracker::new(graph, is_output);
            let first = tracker.now().clone();
            *lock(&self.tracker) = Some(tracker);
            self.tell(&JobEvent::Progress(first));
        }
    }
}

/// Works off the orders of one job.
struct Worker {
    inner: Arc<Inner>,
    origin: Option<Arc<dyn Origin>>,
    job: std::sync::Weak<Job>,
    id: Arc<str>,
    /// The id as file names hold it.
    file_id: Arc<str>,
    /// Files and texts that are kept already, by node and where they were reported.
    seen: HashSet<(String, String)>,
    names: HashSet<String>,
    /// Committed files: where they were, and their records. One may be known by two places.
    kept: Vec<(PathBuf, AssetRecord)>,
    /// How many outputs there are.
    count: i64,
}

/// Something a node has reported.
enum Found {
    File {
        path: PathBuf,
        shown: String,
        temp: bool,
    },
    Text(String),
}

impl Worker {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Node {
                    node,
                    output,
                    place,
                } => self.node(&node, &output, &place).await,
                Order::Results { files, place, done } => {
                    let _ = done.send(self.results(files, &place).await);
                }
                Order::Tell(listener) => drop(listener),
                Order::Withdraw => {
                    self.seen.clear();
                    self.names.clear();
                    self.kept.clear();
                    self.count = 0;
                    match &self.origin {
                        Some(origin) => origin.tell("outputs_withdrawn", Value::Null),
                        None => drop(self.inner.store.withdraw_outputs(&self.id).await),
                    }
                    self.tell(&JobEvent::Withdrawn);
                }
            }
        }
    }

    fn tell(&self, event: &JobEvent) {
        if let Some(job) = self.job.upgrade() {
            job.tell(event);
        }
    }

    async fn node(&mut self, node: &str, output: &Value, place: &Place) {
        let mut found = Vec::new();
        find(output, place, &mut found);
        for (number, one) in found.into_iter().enumerate() {
            let kept = match one {
                Found::File { temp: false, .. } if place.results_differ => continue,
                Found::File { path, shown, temp } => {
                    if !self.seen.insert((node.to_owned(), shown)) || self.was_kept(&path).is_some()
                    {
                        continue;
                    }
                    let kept = if temp && !path.exists() {
                        let Some(file) = fetched(node, &path, place).await else {
                            continue;
                        };
                        self.file(node, &file.path, Some(&file.filename), true)
                            .await
                    } else {
                        self.file(node, &path, None, false).await
                    };
                    // By which the result knows it.
                    kept.map(|asset| self.kept.push((path, asset)))
                }
                Found::Text(text) => self.text(node, number, text).await,
            };
            if let Err(error) = kept {
                tracing::warn!(id = %self.id, node, %error, "an output is not kept");
            }
        }
    }

    fn was_kept(&self, path: &Path) -> Option<&AssetRecord> {
        let mut kept = self.kept.iter().filter(|_| !path.as_os_str().is_empty());
        kept.find(|(known, _)| known == path)
            .map(|(_, asset)| asset)
    }

    async fn text(&mut self, node: &str, number: usize, text: String) -> Result<(), StoreError> {
        // An origin reads texts where nodes report them.
        if self.origin.is_some()
            || text.len() > MAX_TEXT
            || !self
                .seen
                .insert((node.to_owned(), format!("text {number}")))
        {
            return Ok(());
        }
        let name = self.unique(&format!("{}_{node}_{number}.txt", self.file_id));
        let new = self.new_output(node, name, "text", "text/plain; charset=utf-8".to_owned());
        let asset = self.inner.store.commit_text(text, new).await?;
        self.kept.push((PathBuf::new(), asset.clone()));
        self.tell(&JobEvent::Output(asset));
        Ok(())
    }

    async fn file(
        &mut self,
        node: &str,
        path: &Path,
        name: Option<&str>,
        ours: bool,
    ) -> Result<AssetRecord, StoreError> {
        let base = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let own = ours || base.starts_with(&*self.file_id);
        let wanted = name.map_or(base, str::to_owned);
        // A name that is not ours alone would be the same in another job.
        let wanted = if wanted.starts_with(&*self.file_id) {
            wanted
        } else {
            format!("{}_{wanted}", self.file_id)
        };
        let name = self.unique(&wanted);
        let (from, shown) = (path.to_path_buf(), name.clone());
        let content_type = tokio::task::spawn_blocking(move || {
            media::head(&from).map(|head| media::content_type(&shown, &head))
        })
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))??;
        let new = self.new_output(node, name.clone(), kind(&name, &content_type), content_type);
        let asset = match self.origin.clone() {
            Some(origin) => hand_over(&*origin, path, new).await?,
            None => self.inner.store.commit_output(path, own, new).await?,
        };
        self.kept.push((path.to_path_buf(), asset.clone()));
        self.tell(&JobEvent::Output(asset.clone()));
        Ok(asset)
    }

    async fn results(
        &mut self,
        files: Vec<OutputFile>,
        _place: &Place,
    ) -> Result<Vec<AssetRecord>, StoreError> {
        let mut assets = Vec::with_capacity(files.len());
        for file in files {
            if let Some(known) = self.was_kept(&file.written_to) {
                assets.push(known.clone());
                continue;
            }
            let node = file.node_id.clone().unwrap_or_default();
            // What was made of outputs is nobody else's.
            let ours = file.written_to.as_os_str().is_empty();
            let kept = self.file(&node, &file.path, Some(&file.filename), ours);
            let asset = kept.await?;
            // One that is told of before the result is known by that.
            if !ours {
                self.kept.push((file.written_to.clone(), asset.clone()));
            }
            assets.push(asset);
        }
        Ok(assets)
    }

    fn new_output(
        &mut self,
        node: &str,
        name: String,
        kind: &'static str,
        content_type: String,
    ) -> NewOutput {
        self.count += 1;
        NewOutput {
            job_id: self.id.to_string(),
            node_id: node.to_owned(),
            name,
            kind,
            content_type,
            position: self.count - 1,
            remote_url: None,
        }
    }

    fn unique(&mut self, wanted: &str) -> String {
        if self.names.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let (stem, extension) = wanted.rsplit_once('.').unwrap_or((wanted, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        let mut number = 2_u64;
        loop {
            let name = format!("{stem}_{number}{dot}{extension}");
            if self.names.insert(name.clone()) {
                return name;
            }
            number += 1;
        }
    }
}

/// A preview of a ComfyUI whose temporary files are not on this machine.
async fn fetched(node: &str, path: &Path, place: &Place) -> Option<OutputFile> {
    let (client, cleanup) = place.asked.as_ref()?;
    let file = Elsewhere::below(&place.temp_dir, node.to_owned(), "images".to_owned(), path);
    match outputs::view(client, file, cleanup).await {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::debug!(node, error, "a preview cannot be fetched");
            None
        }
    }
}

/// Hands one output over, and tells of it.
async fn hand_over(
    origin: &dyn Origin,
    path: &Path,
    new: NewOutput,
) -> Result<AssetRecord, StoreError> {
    let handed = origin.put(path, &new.name).await;
    let handed = handed.map_err(|failure| StoreError::Failed(failure.message))?;
    origin.tell(
        "output",
        serde_json::json!({
            "name": handed.name, "size": handed.size, "hash": handed.hash,
            "node_id": new.node_id, "type": new.kind, "content_type": new.content_type,
        }),
    );
    Ok(AssetRecord {
        id: String::new(),
        hash: Some(handed.hash.trim_start_matches("blake3:").to_owned()),
        size: handed.size,
        content_type: new.content_type,
        file_path: handed.name,
        created_at: 0,
        expires_at: None,
        job_id: Some(new.job_id),
        node_id: Some(new.node_id),
        kind: Some(new.kind.to_owned()),
        position: new.position,
        external: None,
        remote_url: None,
    })
}

/// The normalised kind of an output.
fn kind(name: &str, content_type: &str) -> &'static str {
    if name.ends_with(".latent") {
        return "latent";
    }
    match content_type.split('/').next() {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        Some("text") => "text",
        _ => "file",
    }
}

/// Files at any depth, under any key; and the strings of lists called `text`.
fn find(output: &Value, place: &Place, found: &mut Vec<Found>) {
    match output {
        Value::Object(members) => {
            if let Some(filename) = members.get("filename").and_then(Value::as_str) {
                let text = |name: &str| {
                    members
                        .get(name)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                let (root, temp) = match text("type") {
                    "" | "output" => (&place.output_dir, false),
                    "temp" => (&place.temp_dir, true),
                    _ => return,
                };
                let there = resolve(root, text("subfolder"), filename);
                let elsewhere = || {
                    let can_be_had = temp && place.asked.is_some();
                    let path = below(root, text("subfolder"), filename);
                    path.filter(|path| can_be_had && !path.exists())
                };
                if let Some(path) = there.or_else(elsewhere) {
                    found.push(Found::File {
                        shown: format!("{}:{}", text("type"), path.display()),
                        path,
                        temp,
                    });
                }
                return;
            }
            for (key, value) in members {
                if key == "text" {
                    match value {
                        Value::String(text) => {
                            found.push(Found::Text(plain_text(text).into_owned()));
                        }
                        Value::Array(texts) => {
                            found.extend(
                                texts
                                    .iter()
                                    .filter_map(Value::as_str)
                                    .map(|text| Found::Text(plain_text(text).into_owned())),
                            );
                        }
                        _ => {}
                    }
                }
                find(value, place, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(name) => {
                        // Some nodes report the bare name of what they have saved (F09).
                        if let Some(path) = resolve(&place.output_dir, "", name)
                            && path.is_file()
                        {
                            found.push(Found::File {
                                shown: format!(":{}", path.display()),
                                path,
                                temp: false,
                            });
                        }
                    }
                    item => find(item, place, found),
                }
            }
        }
        _ => {}
    }
}

/// The path, if it lies below the root by its text and after links.
fn resolve(root: &Path, subfolder: &str, filename: &str) -> Option<PathBuf> {
    let path = below(root, subfolder, filename)?;
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(real), Ok(root)) if real.starts_with(&root) => Some(path),
        _ => None,
    }
}

/// The path, if it lies below the root by its text.
fn below(root: &Path, subfolder: &str, filename: &str) -> Option<PathBuf> {
    let clean = |text: &str| text.replace('\\', "/");
    let path = root.join(clean(subfolder)).join(clean(filename));
    let mut parts = path.components();
    let leads_up = parts.any(|part| part == std::path::Component::ParentDir);
    (!leads_up && path.starts_with(root)).then_some(path)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
