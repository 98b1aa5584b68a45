//! The one worker: takes prompts, runs nodes, tells who listens, writes the history.

mod current;
mod expansion;
mod node;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use expansion::Inner;
use node::run_node;
use serde_json::{Map, Value, json};

use super::args::Imitate;
use super::cache::{Cache, keys};
use super::instance::{Instance, now_ms};
use super::nodes::Raised;
use super::queue::{Finished, Item, Work};
use super::schedule::Schedule;

pub use current::Current;

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
            current.tell(
                instance,
                "executed",
                &json!({
                    "node": id,
                    "display_node": id,
                    "output": output,
                    "prompt_id": item.prompt_id
                }),
            );
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
                    json!({
                        "prompt_id": item.prompt_id,
                        "node_id": id,
                        "node_type": class,
                        "executed": current.executed()
                    }),
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
                let error = json!({"prompt_id": item.prompt_id, "node_id": id, "node_type": class,
                "executed": current.executed(),
                    "exception_message": format!("{message}\n"), "exception_type": kind,
                    "traceback": traceback,
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
            json!({
                "node_id": id,
                "display_node": display,
                "parent_node": display,
                "real_node_id": display
            }),
        );
        outputs.insert(id, ui);
    }
    let success = matches!(end, End::Success);
    let status = json!({
        "status_str": if success { "success" } else { "error" },
        "completed": success,
        "messages": messages
    });
    Finished {
        item: Arc::clone(item),
        outputs,
        status,
        meta,
    }
}
