//! The one worker: takes prompts, runs nodes, tells who listens, writes the history.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::args::Imitate;
use super::cache::{Cache, Key, keys, link};
use super::hub::lock;
use super::instance::{Instance, now_ms};
use super::nodes::{Call, Datum, Raised};
use super::python;
use super::queue::{Finished, Item, Work};
use super::schedule::Schedule;

/// The prompt that runs.
#[derive(Debug)]
pub struct Current<'a> {
    /// Its id.
    pub prompt_id: &'a str,
    /// Whose it is. `None`: some messages go to everybody, the others to nobody.
    pub client_id: Option<String>,
    /// `extra_data`.
    pub extra: &'a Value,
    /// Output nodes that run.
    pub outputs: &'a [String],
    graph: &'a Map<String, Value>,
    tokens: HashMap<String, String>,
    metadata: OnceCell<String>,
    progress: std::sync::Mutex<Value>,
    executed: std::sync::Mutex<Vec<String>>,
}

impl Current<'_> {
    /// The client's graph.
    pub fn graph(&self) -> &Map<String, Value> {
        self.graph
    }

    /// The graph as it is written into files.
    pub fn metadata(&self) -> &str {
        self.metadata.get_or_init(|| {
            let mut graph = self.graph.clone();
            for (id, token) in &self.tokens {
                if let Some(node) = graph.get_mut(id).and_then(Value::as_object_mut) {
                    node.insert("is_changed".into(), json!([token]));
                }
            }
            python::dumps(&Value::Object(graph))
        })
    }

    /// The nodes that ran so far.
    pub fn executed(&self) -> Vec<String> {
        lock(&self.executed).clone()
    }

    /// Notes where a node is, and tells all that is known about this run.
    pub fn progress(
        &self,
        instance: &Instance,
        (node, display): (&str, &str),
        value: Value,
        max: Value,
        state: &str,
    ) {
        let mut progress = lock(&self.progress);
        progress["nodes"][node] = json!({"value": value, "max": max, "state": state, "node_id": node, "prompt_id": self.prompt_id,
            "display_node_id": display, "parent_node_id": if node == display { Value::Null } else { display.into() }, "real_node_id": display});
        instance
            .hub
            .send("progress_state", &progress, self.client_id.as_deref());
    }

    fn finish(&self, instance: &Instance, (node, display): (&str, &str)) {
        let max = lock(&self.progress)["nodes"][node]["max"].clone();
        let max = if max.is_null() { json!(1.0) } else { max };
        self.progress(instance, (node, display), max.clone(), max, "finished");
    }

    /// To the prompt's client; without one, to nobody.
    fn tell(&self, instance: &Instance, kind: &str, data: &Value) {
        if self.client_id.is_some() {
            instance.hub.send(kind, data, self.client_id.as_deref());
        }
    }
}

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
            for line in [
                "Exception in thread Thread-1 (prompt_worker):",
                "Traceback (most recent call last):",
                "  File \"main.py\", line 202, in prompt_worker",
                "TypeError: argument of type 'NoneType' is not iterable",
            ] {
                instance.log(line);
            }
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

fn run(
    instance: &Instance,
    cache: &mut Cache,
    item: &Arc<Item>,
    client_id: Option<String>,
) -> Finished {
    let empty = Map::new();
    let graph = item.graph.as_object().unwrap_or(&empty);
    let mut messages = Vec::new();
    let (keys, tokens) = keys(instance, graph);
    let current = Current {
        prompt_id: &item.prompt_id,
        client_id,
        extra: &item.extra,
        outputs: &item.outputs,
        graph,
        tokens,
        metadata: OnceCell::new(),
        progress: json!({"prompt_id": item.prompt_id, "nodes": {}}).into(),
        executed: Vec::new().into(),
    };
    let mut report = |kind: &str, mut data: Value, broadcast: bool| {
        data["timestamp"] = now_ms().into();
        if broadcast || current.client_id.is_some() {
            instance.hub.send(kind, &data, current.client_id.as_deref());
        }
        messages.push(json!([kind, data]));
    };
    report(
        "execution_start",
        json!({"prompt_id": item.prompt_id}),
        false,
    );
    cache.begin(&keys);
    let cached: HashSet<&str> = graph
        .keys()
        .filter(|id| keys.get(*id).is_some_and(|key| cache.get(key).is_some()))
        .map(String::as_str)
        .collect();
    let cached_in_order: Vec<&String> = graph
        .keys()
        .filter(|id| cached.contains(id.as_str()))
        .collect();
    report(
        "execution_cached",
        json!({"nodes": cached_in_order, "prompt_id": item.prompt_id}),
        false,
    );

    let is_output = |id: &str| {
        graph
            .get(id)
            .and_then(|node| node["class_type"].as_str())
            .and_then(|name| instance.classes.get(name))
            .is_some_and(|class| class.output_node)
    };
    let mut schedule = Schedule::new(graph, &item.outputs, &cached);
    let mut emitted: HashSet<String> = HashSet::new();
    let mut inner = Inner::default();
    let mut end = End::Success;
    while let Some(id) = schedule.next(is_output) {
        let Some(key) = keys.get(&id) else { continue };
        if let Some(entry) = cache.get(key) {
            let output = entry.ui.clone().unwrap_or(Value::Null);
            current.tell(instance, "executed", &json!({"node": id, "display_node": id, "output": output, "prompt_id": item.prompt_id}));
            current.finish(instance, (&id, &id));
            emitted.insert(id);
            continue;
        }
        match run_node(instance, cache, &current, &keys, (&id, &id), &mut inner) {
            Ok(()) => {
                emitted.insert(id);
            }
            Err((Raised::Interrupted, class, _)) => {
                report(
                    "execution_interrupted",
                    json!({"prompt_id": item.prompt_id, "node_id": id, "node_type": class, "executed": current.executed()}),
                    true,
                );
                end = End::Failed;
                break;
            }
            Err((Raised::Error { kind, message }, class, inputs)) => {
                instance.log(&format!("!!! Exception during processing !!! {message}"));
                let traceback: Vec<String> = [
                    "execute",
                    "get_output_data",
                    "_async_map_node_over_list",
                    "process_inputs",
                    &class,
                ]
                .iter()
                .map(|function| {
                    format!("  File \"/ComfyUI/execution.py\", line 1, in {function}\n    ...\n")
                })
                .collect();
                let error = json!({"prompt_id": item.prompt_id, "node_id": id, "node_type": class, "executed": current.executed(),
                    "exception_message": format!("{message}\n"), "exception_type": kind, "traceback": traceback,
                    "current_inputs": inputs, "current_outputs": graph.keys().collect::<Vec<_>>()});
                report("execution_error", error, false);
                end = End::Failed;
                break;
            }
        }
    }
    if matches!(end, End::Success) {
        report(
            "execution_success",
            json!({"prompt_id": item.prompt_id}),
            false,
        );
    }
    instance.hub.set_node(None);
    let (mut outputs, mut meta) = (Map::new(), Map::new());
    for id in graph.keys() {
        let shown = keys
            .get(id)
            .and_then(|key| cache.get(key))
            .and_then(|entry| entry.ui.as_ref());
        if let Some(ui) = shown
            && (instance.imitate == Imitate::V0_3_64 || emitted.contains(id))
        {
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
            json!({"node_id": id, "display_node": display, "parent_node": display, "real_node_id": display}),
        );
        outputs.insert(id, ui);
    }
    let success = matches!(end, End::Success);
    let status = json!({"status_str": if success { "success" } else { "error" }, "completed": success, "messages": messages});
    Finished {
        item: Arc::clone(item),
        outputs,
        status,
        meta,
    }
}

type Failed = (Raised, String, Value);

/// What nodes that replaced others have shown: id, the client's node, output.
#[derive(Default)]
struct Inner {
    shown: Vec<(String, String, Value)>,
}

/// Runs the nodes that take a node's place, in their order.
fn run_inner(
    instance: &Instance,
    cache: &mut Cache,
    current: &Current<'_>,
    display: &str,
    expanded: Map<String, Value>,
    inner: &mut Inner,
) -> Result<(), Failed> {
    let mut graph = current.graph.clone();
    let named: Vec<(String, Value)> = expanded
        .into_iter()
        .map(|(id, node)| (format!("{display}.0.0.{id}"), node))
        .collect();
    graph.extend(named.iter().cloned());
    let (keys, _) = keys(instance, &graph);
    let whole = Current {
        prompt_id: current.prompt_id,
        client_id: current.client_id.clone(),
        extra: current.extra,
        outputs: current.outputs,
        graph: &graph,
        tokens: HashMap::new(),
        metadata: OnceCell::new(),
        progress: lock(&current.progress).clone().into(),
        executed: Vec::new().into(),
    };
    for (id, _) in &named {
        if keys.get(id).is_none_or(|key| cache.get(key).is_none()) {
            run_node(instance, cache, &whole, &keys, (id, display), inner)?;
        }
        let shown = keys.get(id).and_then(|key| cache.get(key)?.ui.clone());
        inner
            .shown
            .extend(shown.map(|ui| (id.clone(), display.to_owned(), ui)));
    }
    Ok(())
}

/// Runs one node: its start, its function, its end.
fn run_node(
    instance: &Instance,
    cache: &mut Cache,
    current: &Current<'_>,
    keys: &HashMap<String, Key>,
    (id, display): (&str, &str),
    inner: &mut Inner,
) -> Result<(), Failed> {
    let node = current.graph.get(id).unwrap_or(&Value::Null);
    let class_name = node["class_type"].as_str().unwrap_or_default();
    current.progress(instance, (id, display), json!(0.0), json!(1.0), "running");
    if current.client_id.is_some() {
        instance.hub.set_node(Some(id.to_owned()));
    }
    current.tell(
        instance,
        "executing",
        &json!({"node": id, "display_node": display, "prompt_id": current.prompt_id}),
    );
    let Some(class) = instance.classes.get(class_name) else {
        return Err((
            Raised::new("KeyError", format!("'{class_name}'")),
            class_name.to_owned(),
            json!({}),
        ));
    };
    let mut inputs = HashMap::new();
    let given = node["inputs"].as_object();
    let others = given.into_iter().flat_map(Map::keys).filter(|name| {
        let listed = class.inputs.iter().any(|input| input.name == *name);
        class.flexible && !listed
    });
    let listed = class.inputs.iter().map(|input| input.name);
    for name in listed.chain(others.map(String::as_str)) {
        let value = match node["inputs"].get(name) {
            None => continue,
            Some(value) => match link(value) {
                Some((from, output)) => keys
                    .get(&from)
                    .and_then(|key| cache.get(key))
                    .and_then(|entry| entry.outputs.get(output))
                    .cloned(),
                None => Some(Datum::Json(value.clone())),
            },
        };
        inputs.insert(name.to_owned(), value.unwrap_or(Datum::Json(Value::Null)));
    }
    let mut call = Call {
        instance,
        current,
        node: id,
        display,
        class: class_name,
        inputs,
    };
    let result = faulty(&call).and_then(|()| (class.run)(&mut call));
    match result {
        Ok(produced) => {
            instance.nodes_run.fetch_add(1, Ordering::Relaxed);
            if let Some(ui) = &produced.ui {
                current.tell(instance, "executed", &json!({"node": id, "display_node": display, "output": ui, "prompt_id": current.prompt_id}));
            }
            if let Some(expanded) = produced.expand {
                run_inner(instance, cache, current, display, expanded, inner)?;
            }
            if let Some(key) = keys.get(id) {
                cache.put(*key, produced.outputs, produced.ui);
            }
            lock(&current.executed).push(id.to_owned());
            current.finish(instance, (id, display));
            Ok(())
        }
        Err(raised) => {
            let inputs: Map<String, Value> = call
                .inputs
                .iter()
                .map(|(name, datum)| (name.clone(), json!([datum.shown()])))
                .collect();
            Err((raised, class_name.to_owned(), Value::Object(inputs)))
        }
    }
}

/// The interrupt check before each call, and what was asked to be broken in this class.
fn faulty(call: &Call<'_>) -> Result<(), Raised> {
    call.checkpoint()?;
    let (pause, crash, fail) = call.instance.faults.read(|faults| {
        (
            faults.node_ms,
            faults.crash_class.get(call.class).copied(),
            faults.fail_class.get(call.class).cloned(),
        )
    });
    if pause > 0 {
        std::thread::sleep(Duration::from_millis(pause));
    }
    if let Some(code) = crash {
        call.instance.crash(code);
    }
    fail.map_or(Ok(()), |message| {
        Err(match message.split_once(": ") {
            Some((kind, message)) if kind.ends_with("Error") && !kind.contains(' ') => {
                Raised::new(kind.to_owned(), message.to_owned())
            }
            _ => Raised::new("RuntimeError", message),
        })
    })
}
