//! The one worker: takes prompts, runs nodes, tells who listens, writes the history.

mod current;
mod expansion;
mod node;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use expansion::Inner;
use node::run_node;
use serde_json::{Map, Value, json};

use super::args::Imitate;
use super::cache::{Cache, Key, keys};
use super::instance::{Instance, now_ms};
use super::nodes::Raised;
use super::queue::{Finished, Item, Work};
use super::schedule::Schedule;

pub use current::Current;

/// What a worker that dies writes to the log.
const LAST_WORDS: [&str; 4] = [
    "Exception in thread Thread-1 (prompt_worker):",
    "Traceback (most recent call last):",
    "  File \"main.py\", line 202, in prompt_worker",
    "TypeError: argument of type 'NoneType' is not iterable",
];

/// Runs until the queue is closed or the worker dies.
pub fn work(instance: &Arc<Instance>) {
    let mut cache = Cache::new(&instance.args);
    loop {
        let item = match instance.queue.take() {
            Work::End => return,
            Work::Free { cache: everything } => {
                if everything {
                    cache.clear();
                }
                continue;
            }
            Work::Prompt(item) => item,
        };
        instance.announce_queue();
        if instance.faults.read(|faults| faults.silent_worker_death) {
            return;
        }
        if instance.faults.read(|faults| faults.dead_worker) || !item.extra.is_object() {
            LAST_WORDS.iter().for_each(|line| instance.log(line));
            return;
        }
        if instance.faults.loses_this_prompt() {
            instance.queue.done(None);
            instance.announce_queue();
            continue;
        }
        let started = Instant::now();
        let client_id = owner(&item.extra);
        instance.interrupt.store(false, Ordering::Release);
        instance.hub.set_owner(client_id.clone());
        let finished = run(instance, &mut cache, &item, client_id.clone());
        let delay = instance.faults.read(|faults| faults.history_delay_ms);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let counter = if finished.status["completed"] == json!(true) {
            &instance.succeeded
        } else {
            &instance.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        instance.queue.done(Some(finished));
        instance.announce_queue();
        if let Some(client) = client_id {
            instance.hub.send(
                "executing",
                &json!({"node": null, "prompt_id": item.prompt_id}),
                Some(&client),
            );
        }
        instance.log(&format!(
            "Prompt executed in {:.2} seconds",
            started.elapsed().as_secs_f64()
        ));
    }
}

/// The client id; a number is one that no socket has.
fn owner(extra: &Value) -> Option<String> {
    match extra.get("client_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(other) => Some(format!("\0{other}")),
    }
}

/// How a run ended, apart from its messages.
enum End {
    Success,
    Failed,
}

/// What is told of a run, and noted in the history.
struct Report<'a> {
    instance: &'a Instance,
    current: &'a Current<'a>,
    messages: Vec<Value>,
}

impl Report<'_> {
    fn tell(&mut self, kind: &str, mut data: Value, broadcast: bool) {
        data["timestamp"] = now_ms().into();
        let client = self.current.client_id.as_deref();
        if broadcast || client.is_some() {
            self.instance.hub.send(kind, &data, client);
        }
        self.messages.push(json!([kind, data]));
    }
}

fn run(
    instance: &Instance,
    cache: &mut Cache,
    item: &Arc<Item>,
    client_id: Option<String>,
) -> Finished {
    let empty = Map::new();
    let graph = item.graph.as_object().unwrap_or(&empty);
    let (keys, tokens) = keys(instance, graph);
    let current = Current::new(item, client_id, graph, tokens);
    let mut report = Report {
        instance,
        current: &current,
        messages: Vec::new(),
    };
    let cached = begin(&mut report, cache, &keys);
    let mut emitted: HashSet<String> = HashSet::new();
    let mut inner = Inner::default();
    let mut schedule = Schedule::new(graph, &item.outputs, &cached);
    let end = run_nodes(
        &mut report,
        cache,
        &keys,
        &mut schedule,
        &mut emitted,
        &mut inner,
    );
    if matches!(end, End::Success) {
        report.tell(
            "execution_success",
            json!({"prompt_id": item.prompt_id}),
            false,
        );
    }
    instance.hub.set_node(None);
    let shown = |id: &String| {
        let entry = keys.get(id).and_then(|key| cache.get(key))?;
        let told = instance.imitate == Imitate::V0_3_64 || emitted.contains(id);
        entry.ui.as_ref().filter(|_| told)
    };
    let (outputs, meta) = history(graph, shown, inner);
    let success = matches!(end, End::Success);
    let status = json!({
        "status_str": if success { "success" } else { "error" },
        "completed": success,
        "messages": report.messages
    });
    Finished {
        item: Arc::clone(item),
        outputs,
        status,
        meta,
    }
}

/// Tells of the beginning, and which nodes have their outputs already.
fn begin<'a>(
    report: &mut Report<'a>,
    cache: &mut Cache,
    keys: &HashMap<String, Key>,
) -> HashSet<&'a str> {
    let current = report.current;
    report.tell(
        "execution_start",
        json!({"prompt_id": current.prompt_id}),
        false,
    );
    cache.begin(keys);
    let cached: HashSet<&str> = current
        .graph
        .keys()
        .filter(|id| keys.get(*id).is_some_and(|key| cache.get(key).is_some()))
        .map(String::as_str)
        .collect();
    let cached_in_order: Vec<&String> = current
        .graph
        .keys()
        .filter(|id| cached.contains(id.as_str()))
        .collect();
    report.tell(
        "execution_cached",
        json!({"nodes": cached_in_order, "prompt_id": current.prompt_id}),
        false,
    );
    cached
}

/// Runs nodes until all have run, or one of them fails.
fn run_nodes(
    report: &mut Report<'_>,
    cache: &mut Cache,
    keys: &HashMap<String, Key>,
    schedule: &mut Schedule,
    emitted: &mut HashSet<String>,
    inner: &mut Inner,
) -> End {
    let (instance, current) = (report.instance, report.current);
    let is_output = |id: &str| {
        current
            .graph
            .get(id)
            .and_then(|node| node["class_type"].as_str())
            .and_then(|name| instance.classes.get(name))
            .is_some_and(|class| class.output_node)
    };
    while let Some(id) = schedule.next(is_output) {
        let Some(key) = keys.get(&id) else { continue };
        if let Some(entry) = cache.get(key) {
            let output = entry.ui.clone().unwrap_or(Value::Null);
            current.executed_as_cached(instance, &id, &output);
            emitted.insert(id);
            continue;
        }
        match run_node(instance, cache, current, keys, (&id, &id), inner) {
            Ok(()) => {
                emitted.insert(id);
            }
            Err((Raised::Interrupted, class, _)) => {
                report.tell(
                    "execution_interrupted",
                    json!({
                        "prompt_id": current.prompt_id,
                        "node_id": id,
                        "node_type": class,
                        "executed": current.executed()
                    }),
                    true,
                );
                return End::Failed;
            }
            Err((Raised::Error { kind, message }, class, inputs)) => {
                instance.log(&format!("!!! Exception during processing !!! {message}"));
                let error = current.error(&id, &class, (kind, message), inputs);
                report.tell("execution_error", error, false);
                return End::Failed;
            }
        }
    }
    End::Success
}

/// What the history shows of the outputs of nodes, and where each came from.
fn history<'a>(
    graph: &Map<String, Value>,
    shown: impl Fn(&String) -> Option<&'a Value>,
    inner: Inner,
) -> (Map<String, Value>, Map<String, Value>) {
    let (mut outputs, mut meta) = (Map::new(), Map::new());
    for id in graph.keys() {
        if let Some(ui) = shown(id) {
            outputs.insert(id.clone(), ui.clone());
            meta.insert(
                id.clone(),
                json!({"node_id": id, "display_node": id, "parent_node": null, "real_node_id": id}),
            );
        }
    }
    for (id, display, ui) in inner.shown {
        meta.insert(
            id.clone(),
            json!({
                "node_id": id,
                "display_node": display,
                "parent_node": display,
                "real_node_id": display
            }),
        );
        outputs.insert(id, ui);
    }
    (outputs, meta)
}
