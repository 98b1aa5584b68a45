//! What `POST /prompt` refuses, and with which words. Values are coerced in place, as in the
//! original.

mod constant;
mod validator;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use validator::{Exception, Validator};

use super::args::Imitate;
use super::instance::Instance;
use super::python;

/// What became of a graph.
#[derive(Debug)]
pub struct Verdict {
    /// The `error` of a 400; `None` if something can run.
    pub error: Option<Value>,
    /// Valid output nodes.
    pub outputs: Vec<String>,
    /// Errors by node, also beside a 200.
    pub node_errors: Map<String, Value>,
}

impl Verdict {
    fn refused(error: Value) -> Self {
        Self {
            error: Some(error),
            outputs: Vec::new(),
            node_errors: Map::new(),
        }
    }
}

fn error(kind: &str, message: &str, details: &str, extra: Value) -> Value {
    let extra = if extra.is_null() { json!({}) } else { extra };
    json!({"type": kind, "message": message, "details": details, "extra_info": extra})
}

/// A node whose class is missing, or that ComfyUI does not have.
fn unknown_class(
    instance: &Instance,
    (id, node): (&str, &Map<String, Value>),
    message: &str,
    class: &str,
) -> Verdict {
    let title = node
        .get("_meta")
        .and_then(|meta| meta.get("title"))
        .cloned()
        .unwrap_or_else(|| class.into());
    let (kind, extra) = match instance.imitate {
        Imitate::Current => (
            "missing_node_type",
            json!({
                "node_id": id,
                "class_type": if class.is_empty() { Value::Null } else { class.into() },
                "node_title": title
            }),
        ),
        Imitate::V0_3_64 => ("invalid_prompt", Value::Null),
    };
    Verdict::refused(error(kind, message, &format!("Node ID '#{id}'"), extra))
}

fn raised(exception: &Exception) -> Value {
    error(
        "exception_during_validation",
        "Exception when validating node",
        &exception.text,
        json!({
            "exception_type": exception.kind,
            "traceback": ["  File \"execution.py\", line 1, in validate_prompt\n"]
        }),
    )
}

/// The output nodes that are asked for; or a refusal, when a node's class is not known.
fn outputs(
    instance: &Instance,
    graph: &Map<String, Value>,
    targets: Option<&[Value]>,
) -> Result<Result<Vec<String>, Verdict>, ()> {
    let mut outputs = Vec::new();
    for (id, node) in graph.iter() {
        let node = node.as_object().ok_or(())?;
        let unknown =
            |message: String, class: &str| unknown_class(instance, (id, node), &message, class);
        let Some(class) = node.get("class_type") else {
            return Ok(Err(unknown(
                "Cannot execute because a node is missing the class_type property.".into(),
                "",
            )));
        };
        let name = python::display(class);
        let Some(class) = instance.classes.get(&name) else {
            return Ok(Err(unknown(
                format!("Cannot execute because node {name} does not exist."),
                &name,
            )));
        };
        if class.output_node
            && targets
                .is_none_or(|targets| targets.iter().any(|target| target.as_str() == Some(id)))
        {
            outputs.push(id.clone());
        }
    }
    Ok(Ok(outputs))
}

/// Checks a graph. `Err` stands for an exception that ends in a 500.
pub fn validate(
    instance: &Instance,
    graph: &mut Map<String, Value>,
    targets: Option<&[Value]>,
) -> Result<Verdict, ()> {
    let outputs = match outputs(instance, graph, targets)? {
        Ok(outputs) => outputs,
        Err(refused) => return Ok(refused),
    };
    if outputs.is_empty() {
        return Ok(Verdict::refused(error(
            "prompt_no_outputs",
            "Prompt has no outputs",
            "",
            Value::Null,
        )));
    }
    let mut validator = Validator {
        instance,
        graph,
        blind: instance.faults.hides_models(),
        results: HashMap::new(),
        order: Vec::new(),
        path: HashSet::new(),
    };
    let (mut good, mut node_errors, mut details) = (Vec::new(), Map::new(), Vec::new());
    for output in outputs {
        let valid = match validator.node(&output, 0) {
            Ok(valid) => valid,
            Err(exception) => {
                let reason = raised(&exception);
                validator.note(&output, false, vec![reason]);
                false
            }
        };
        if valid {
            good.push(output);
            continue;
        }
        validator.report(&output, &mut details, &mut node_errors);
    }
    let error = good.is_empty().then(|| {
        error(
            "prompt_outputs_failed_validation",
            "Prompt outputs failed validation",
            &details.join("\n"),
            Value::Null,
        )
    });
    Ok(Verdict {
        error,
        outputs: good,
        node_errors,
    })
}
