//! The last runs of every transport, in memory: what was asked for and what became of it, without
//! files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::item::Details;
use crate::comfy::catalogue::Catalogue;
use crate::comfy::pool::Pool;
use crate::job::media_inputs;
use crate::job::registry::{Job, JobSnapshot};
use crate::job::request::{Graph, PromptRequest, shown_graph};
use crate::job::witness::{DeliveredFile, Ended, Witness};

/// Bytes of a request, of a graph, of statistics, texts and warnings each that are remembered.
pub const MOST: usize = 64 * 1024;
/// Delivered files of a run that are remembered.
const MOST_FILES: usize = 1000;
/// So many ended runs are known at least, for those who follow changes; only `HISTORY_RUNS` of them
/// are shown.
const AT_LEAST: usize = 100;

/// Remembers runs.
pub struct Memory {
    comfy: Pool,
    limit: usize,
    runs: Mutex<Runs>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Runs {
    version: u64,
    /// In the order in which they began.
    all: BTreeMap<u64, Remembered>,
    /// The last run of each id.
    numbers: HashMap<Arc<str>, u64>,
    /// Those that have ended: thousands may be in flight.
    ended: BTreeSet<u64>,
}

/// A run in memory.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    /// When anything of it changed last.
    pub version: u64,
    pub id: Arc<str>,
    pub workflow: Option<Arc<str>>,
    /// It has a record in the store.
    pub kept: bool,
    /// When its record says that it began, ms.
    pub created_at: Option<u64>,
    pub request: Option<Written>,
    prompt: Option<Written>,
    pub end: Option<Arc<End>>,
    /// As many have begun since as are remembered: it is shown while it is in flight, and never
    /// again.
    past: bool,
}

/// How a run has ended.
#[derive(Debug)]
pub(super) struct End {
    pub snapshot: JobSnapshot,
    pub outputs: Vec<DeliveredFile>,
    stats: Written,
    texts: Written,
    warnings: Written,
    pub error: Written,
}

/// JSON as text: as values a graph takes ten times as much memory.
#[derive(Debug, Clone)]
pub(super) struct Written(Arc<str>);

impl Written {
    fn of(value: &impl Serialize) -> Self {
        serde_json::to_string(value).unwrap_or_default().into()
    }

    /// What was written.
    fn read(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Written {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Remembered {
    const fn is_shown(&self) -> bool {
        self.end.is_none() || !self.past
    }

    /// Everything that is known of it.
    pub fn details(&self) -> Details {
        let whole = |part: &Option<Written>| part.as_ref().map(Written::read).unwrap_or_default();
        let mut details = Details {
            request: whole(&self.request),
            prompt: whole(&self.prompt),
            ..Details::default()
        };
        if let Some(end) = &self.end {
            details.stats = end.stats.read();
            details.texts = end.texts.read();
            details.warnings = end.warnings.read();
            details.error = end.error.read();
        }
        details
    }
}

impl Memory {
    /// Remembers `limit` runs.
    pub fn new(limit: usize, comfy: Pool) -> Self {
        Self {
            comfy,
            limit,
            runs: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// See [`super::History::changes`].
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn version(&self) -> u64 {
        self.runs.lock().version
    }

    /// All that are shown, newest first: those in flight, and the ended ones among the last so
    /// many.
    pub(super) fn all(&self) -> Vec<Remembered> {
        let runs = self.runs.lock();
        let newest_first = runs.all.values().rev();
        newest_first.filter(|run| run.is_shown()).cloned().collect()
    }

    /// Those that have changed since, newest first, whether or not they are shown in lists.
    pub(super) fn since(&self, version: u64) -> Vec<Remembered> {
        let runs = self.runs.lock();
        let newest_first = runs.all.values().rev();
        let changed = newest_first.filter(|run| run.version > version);
        changed.cloned().collect()
    }

    /// One of those that are shown.
    pub(super) fn get(&self, id: &str) -> Option<Remembered> {
        let runs = self.runs.lock();
        let number = *runs.numbers.get(id)?;
        let run = runs.all.get(&number)?;
        run.is_shown().then(|| run.clone())
    }

    /// Forgets an ended one; `true` when it was shown.
    pub(super) fn forget(&self, id: &str) -> bool {
        let shown = self.get(id).is_some();
        {
            let mut runs = self.runs.lock();
            let number = runs.numbers.get(id).copied();
            let Some(number) = number.filter(|number| runs.ended.contains(number)) else {
                return false;
            };
            runs.remove(number);
            runs.version += 1;
        }
        self.tell();
        shown
    }

    fn tell(&self) {
        let version = self.version();
        self.changed.send_replace(version);
    }

    /// Changes the run of a job, if it is remembered.
    fn change(&self, job: &Job, change: impl FnOnce(&mut Remembered)) {
        {
            let mut runs = self.runs.lock();
            runs.version += 1;
            let version = runs.version;
            let Some(run) = runs.all.get_mut(&job.number) else {
                return;
            };
            run.version = version;
            change(run);
            if run.end.is_some() {
                runs.ended.insert(job.number);
            }
        }
        self.tell();
    }
}

impl Runs {
    fn push(&mut self, number: u64, run: Remembered, limit: usize) {
        // One of the same id is over, and shown no more.
        if let Some(earlier) = self.numbers.insert(run.id.clone(), number) {
            self.all.remove(&earlier);
            self.ended.remove(&earlier);
        }
        self.all.insert(number, run);
        // Of older ones in flight it is only known that they are there.
        if let Some(run) = self.all.values_mut().rev().nth(limit) {
            run.past = true;
            run.request = None;
            run.prompt = None;
        }
        while self.all.len() > limit.max(AT_LEAST) {
            let Some(oldest) = self.ended.first().copied() else {
                return;
            };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u64) {
        self.ended.remove(&number);
        if let Some(run) = self.all.remove(&number)
            && self.numbers.get(&run.id) == Some(&number)
        {
            self.numbers.remove(&run.id);
        }
    }
}

impl Witness for Memory {
    fn begun(&self, job: &Job, request: &PromptRequest) {
        let catalogue = self.comfy.catalogue();
        let is_media = is_media(&catalogue);
        let from_endpoint = job.workflow.is_some();
        let shown = (self.limit > 0).then(|| {
            let shown = request.shown(from_endpoint, &is_media, MOST);
            shown.map_or_else(|| Written::of(&Value::Null), Written::from)
        });
        let keep = job.keeping.as_ref().and_then(|keeping| keeping.keep());
        {
            let mut runs = self.runs.lock();
            runs.version += 1;
            let run = Remembered {
                version: runs.version,
                id: job.id.clone(),
                workflow: job.workflow.clone(),
                kept: keep.is_some(),
                created_at: keep.and_then(|keep| keep.created_at),
                request: shown,
                prompt: None,
                end: None,
                past: false,
            };
            runs.push(job.number, run, self.limit);
        }
        self.tell();
    }

    fn accepted(&self, job: &Job, graph: &Graph) {
        if self.limit == 0 {
            return;
        }
        let catalogue = self.comfy.catalogue();
        let shown = shown_graph(graph, &is_media(&catalogue), MOST).map(Written::from);
        self.change(job, |run| {
            if run.request.is_some() {
                run.prompt = shown;
            }
        });
    }

    fn changed(&self, job: &Job) {
        self.change(job, |_| {});
    }

    fn ended(&self, job: &Job, ended: &Ended, comes_again: bool) {
        if comes_again && job.keeping.is_some() {
            // Its record says what it waits for.
            let mut runs = self.runs.lock();
            runs.remove(job.number);
            runs.version += 1;
            drop(runs);
            self.tell();
            return;
        }
        let end = Arc::new(end(ended));
        self.change(job, |run| run.end = Some(end));
    }

    fn kept(&self, job: &Job, ended: &Ended) {
        let Ok(summary) = &ended.result else { return };
        if summary.outputs.iter().all(|file| file.asset_id.is_none()) {
            return;
        }
        let end = Arc::new(end(ended));
        self.change(job, |run| {
            if run.end.is_some() {
                run.end = Some(end);
            }
        });
    }
}

fn end(ended: &Ended) -> End {
    let mut end = End {
        snapshot: ended.snapshot.clone(),
        outputs: Vec::new(),
        stats: Written::of(&Value::Null),
        texts: Written::of(&Map::new()),
        warnings: Written::of(&[(); 0]),
        error: Written::of(&Value::Null),
    };
    match &ended.result {
        Ok(summary) => {
            end.outputs = summary.outputs.iter().take(MOST_FILES).cloned().collect();
            end.stats = bounded_stats(&summary.stats);
            end.texts = bounded(&summary.texts);
            end.warnings = bounded(&summary.warnings);
        }
        Err(failure) => {
            let error = crate::config::public_value(failure.body().into());
            end.error = Written::of(&error);
        }
    }
    end
}

/// What is too large is not remembered.
fn bounded(value: &impl Serialize) -> Written {
    let whole = Written::of(value);
    match whole.text().len() <= MOST {
        true => whole,
        false => Written::of(&Value::Null),
    }
}

/// Of statistics the nodes are what is long.
fn bounded_stats(stats: &Value) -> Written {
    let whole = Written::of(stats);
    if whole.text().len() <= MOST {
        return whole;
    }
    let mut rest = stats.clone();
    if let Some(execution) = rest.get_mut("comfy_execution")
        && let Some(execution) = execution.as_object_mut()
    {
        execution.shift_remove("nodes");
    }
    bounded(&rest)
}

fn is_media(catalogue: &Catalogue) -> impl Fn(&str, &str) -> bool + '_ {
    |class, input| media_inputs::takes_media(class, input, catalogue)
}
