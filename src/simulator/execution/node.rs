//! One node.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::current::Current;
use super::expansion::{Failed, Inner, run_inner};
use crate::simulator::cache::{Cache, Key, link};
use crate::simulator::instance::Instance;
use crate::simulator::nodes::{Call, Class, Datum, Raised};

/// Runs one node: its start, its function, its end.
pub(super) fn run_node(
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
    let inputs = inputs_of(node, class, keys, cache);
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
                current.tell(
                    instance,
                    "executed",
                    &json!({
                        "node": id,
                        "display_node": display,
                        "output": ui,
                        "prompt_id": current.prompt_id
                    }),
                );
            }
            if let Some(expanded) = produced.expand {
                run_inner(instance, cache, current, display, expanded, inner)?;
            }
            if let Some(key) = keys.get(id) {
                cache.put(*key, produced.outputs, produced.ui);
            }
            current.executed.lock().push(id.to_owned());
            current.finish(instance, (id, display));
            Ok(())
        }
        Err(raised) => Err((raised, class_name.to_owned(), shown(&call.inputs))),
    }
}

fn shown(inputs: &HashMap<String, Datum>) -> Value {
    let inputs = inputs.iter();
    let inputs = inputs.map(|(name, datum)| (name.clone(), json!([datum.shown()])));
    Value::Object(inputs.collect())
}

/// The values of a node's inputs: those in the graph, and those that other nodes have made.
fn inputs_of(
    node: &Value,
    class: &Class,
    keys: &HashMap<String, Key>,
    cache: &Cache,
) -> HashMap<String, Datum> {
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
    inputs
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
