//! What `POST /prompt` refuses, and with which words. Values are coerced in place, as in the original.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::args::Imitate;
use super::instance::Instance;
use super::nodes::{Class, Input, Kind, Shape};
use super::python;

/// Deeper chains end as Python's recursion limit ends them.
const DEPTH: usize = 400;

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

/// Checks a graph. `Err` stands for an exception that ends in a 500.
pub fn validate(
    instance: &Instance,
    graph: &mut Map<String, Value>,
    targets: Option<&[Value]>,
) -> Result<Verdict, ()> {
    let mut outputs = Vec::new();
    for (id, node) in graph.iter() {
        let node = node.as_object().ok_or(())?;
        let unknown = |message: String, class: &str| {
            let title = node
                .get("_meta")
                .and_then(|meta| meta.get("title"))
                .cloned()
                .unwrap_or_else(|| class.into());
            let (kind, extra) = match instance.imitate {
                Imitate::Current => (
                    "missing_node_type",
                    json!({"node_id": id, "class_type": if class.is_empty() { Value::Null } else { class.into() }, "node_title": title}),
                ),
                Imitate::V0_3_64 => ("invalid_prompt", Value::Null),
            };
            Verdict::refused(error(kind, &message, &format!("Node ID '#{id}'"), extra))
        };
        let Some(class) = node.get("class_type") else {
            return Ok(unknown(
                "Cannot execute because a node is missing the class_type property.".into(),
                "",
            ));
        };
        let name = python::display(class);
        let Some(class) = instance.classes.get(&name) else {
            return Ok(unknown(
                format!("Cannot execute because node {name} does not exist."),
                &name,
            ));
        };
        if class.output_node
            && targets
                .is_none_or(|targets| targets.iter().any(|target| target.as_str() == Some(id)))
        {
            outputs.push(id.clone());
        }
    }
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
                let reason = error(
                    "exception_during_validation",
                    "Exception when validating node",
                    &exception.text,
                    json!({"exception_type": exception.kind, "traceback": ["  File \"execution.py\", line 1, in validate_prompt\n"]}),
                );
                validator.note(&output, false, vec![reason]);
                false
            }
        };
        if valid {
            good.push(output);
            continue;
        }
        instance.log(&format!("Failed to validate prompt for output {output}:"));
        for reason in validator
            .results
            .get(&output)
            .map(|(_, reasons)| reasons.as_slice())
            .unwrap_or_default()
        {
            let reason = format!(
                "{}: {}",
                python::display(&reason["message"]),
                python::display(&reason["details"])
            );
            details.push(reason);
        }
        for id in &validator.order {
            let Some((false, reasons)) = validator.results.get(id) else {
                continue;
            };
            if reasons.is_empty() {
                continue;
            }
            let class = validator
                .graph
                .get(id)
                .map(|node| node["class_type"].clone())
                .unwrap_or_default();
            // The values of clients are in these lines, line breaks and all.
            instance.log(&format!("* {} {id}:", python::display(&class)));
            for reason in reasons {
                instance.log(&format!(
                    "  - {}: {}",
                    python::display(&reason["message"]),
                    python::display(&reason["details"])
                ));
            }
            let entry = node_errors.entry(id.clone()).or_insert_with(
                || json!({"errors": reasons, "dependent_outputs": [], "class_type": class}),
            );
            if let Some(dependent) = entry["dependent_outputs"].as_array_mut() {
                dependent.push(output.clone().into());
            }
        }
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

/// A Python exception while validating.
struct Exception {
    kind: &'static str,
    text: String,
}

struct Validator<'a> {
    instance: &'a Instance,
    graph: &'a mut Map<String, Value>,
    /// It sees no models.
    blind: bool,
    results: HashMap<String, (bool, Vec<Value>)>,
    order: Vec<String>,
    path: HashSet<String>,
}

impl Validator<'_> {
    fn note(&mut self, id: &str, valid: bool, reasons: Vec<Value>) {
        if self
            .results
            .insert(id.to_owned(), (valid, reasons))
            .is_none()
        {
            self.order.push(id.to_owned());
        }
    }

    fn node(&mut self, id: &str, depth: usize) -> Result<bool, Exception> {
        if let Some((valid, _)) = self.results.get(id) {
            return Ok(*valid);
        }
        if depth > DEPTH || !self.path.insert(id.to_owned()) {
            if self.instance.imitate == Imitate::Current && depth <= DEPTH {
                self.note(
                    id,
                    false,
                    vec![error(
                        "dependency_cycle",
                        "Dependency cycle detected",
                        id,
                        json!({"node_id": id}),
                    )],
                );
            }
            return Ok(false);
        }
        let result = self.inputs(id, depth);
        self.path.remove(id);
        let (valid, mut reasons) = result?;
        if let Some((false, earlier)) = self.results.get(id) {
            reasons.extend(earlier.iter().cloned());
        }
        self.note(id, valid, reasons);
        Ok(valid)
    }

    fn inputs(&mut self, id: &str, depth: usize) -> Result<(bool, Vec<Value>), Exception> {
        let node = self.graph.get(id).ok_or_else(|| Exception {
            kind: "KeyError",
            text: format!("'{id}'"),
        })?;
        let class = node["class_type"]
            .as_str()
            .and_then(|name| self.instance.classes.get(name))
            .ok_or_else(|| Exception {
                kind: "KeyError",
                text: "'class_type'".into(),
            })?;
        let given = node.get("inputs").ok_or_else(|| Exception {
            kind: "KeyError",
            text: "'inputs'".into(),
        })?;
        let given = given.as_object().cloned().ok_or_else(|| Exception {
            kind: "TypeError",
            text: "argument of type 'NoneType' is not iterable".into(),
        })?;
        let (mut valid, mut reasons) = (true, Vec::new());
        for input in &class.inputs {
            let Some(value) = given.get(input.name) else {
                if input.required {
                    reasons.push(error(
                        "required_input_missing",
                        "Required input is missing",
                        input.name,
                        json!({"input_name": input.name}),
                    ));
                }
                continue;
            };
            if let Some(link) = value.as_array() {
                match self.link(input, value, link, depth) {
                    Ok(linked) => valid &= linked,
                    Err(Ok(reason)) => reasons.push(reason),
                    Err(Err(exception)) => return Err(exception),
                }
                continue;
            }
            match self.constant(class, input, value) {
                Ok(coerced) if &coerced == value => {}
                Ok(coerced) => self.graph[id]["inputs"][input.name] = coerced,
                Err(reason) => reasons.push(reason),
            }
        }
        Ok((valid && reasons.is_empty(), reasons))
    }

    fn config(&self, input: &Input) -> Value {
        let spec = input.json(&self.instance.folders);
        match spec {
            // `input_config` is always a pair; the options may be empty.
            Value::Array(mut parts) if parts.len() == 1 => {
                parts.push(json!({}));
                Value::Array(parts)
            }
            spec => spec,
        }
    }

    /// A link; `Err(Ok(..))` is an error of this node, `Err(Err(..))` an exception.
    fn link(
        &mut self,
        input: &Input,
        value: &Value,
        link: &[Value],
        depth: usize,
    ) -> Result<bool, Result<Value, Exception>> {
        let config = self.config(input);
        let [from, output] = link else {
            return Err(Ok(error(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                input.name,
                json!({"input_name": input.name, "input_config": config, "received_value": value}),
            )));
        };
        let from_id = from.as_str().unwrap_or_default().to_owned();
        let key_error = || Exception {
            kind: "KeyError",
            text: python::repr(from),
        };
        let source = self.graph.get(&from_id).ok_or_else(|| Err(key_error()))?;
        let source = source["class_type"]
            .as_str()
            .and_then(|name| self.instance.classes.get(name))
            .ok_or_else(|| Err(key_error()))?;
        let output = output
            .as_u64()
            .and_then(|output| usize::try_from(output).ok());
        let Some((received, _)) = output.and_then(|output| source.outputs.get(output)) else {
            return Err(Err(Exception {
                kind: "IndexError",
                text: "tuple index out of range".into(),
            }));
        };
        let wanted = input.type_name();
        // A combo takes any text.
        let fits = *received == "*"
            || wanted == "*"
            || *received == wanted
            || (wanted == "COMBO" && *received == "STRING");
        if !fits {
            return Err(Ok(error(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                &format!(
                    "{}, received_type({received}) mismatch input_type({wanted})",
                    input.name
                ),
                json!({"input_name": input.name, "input_config": config, "received_type": received, "linked_node": value}),
            )));
        }
        match self.node(&from_id, depth + 1) {
            Ok(valid) => Ok(valid),
            Err(exception) => {
                let reason = error(
                    "exception_during_inner_validation",
                    "Exception when validating inner node",
                    &exception.text,
                    json!({"input_name": input.name, "input_config": config, "exception_message": exception.text, "exception_type": exception.kind,
                        "traceback": ["  File \"execution.py\", line 1, in validate_inputs\n"], "linked_node": value}),
                );
                self.note(&from_id, false, vec![reason]);
                Ok(false)
            }
        }
    }

    /// A constant, coerced to the type of the input.
    fn constant(&self, class: &Class, input: &Input, given: &Value) -> Result<Value, Value> {
        let given = given
            .get("__value__")
            .filter(|_| given.is_object())
            .unwrap_or(given);
        let value = match coerced(input, given) {
            Ok(value) => value,
            Err(exception) => {
                return Err(error(
                    "invalid_input_type",
                    &format!(
                        "Failed to convert an input value to a {} value",
                        input.type_name()
                    ),
                    &format!("{}, {}, {exception}", input.name, python::display(given)),
                    json!({"input_name": input.name, "input_config": self.config(input), "received_value": given, "exception_message": exception}),
                ));
            }
        };
        if let Some(what) = input.file {
            return self.file_exists(input, what, value);
        }
        for (bound, kind, word) in [
            ("min", "value_smaller_than_min", "smaller than min"),
            ("max", "value_bigger_than_max", "bigger than max"),
        ] {
            let (Some(limit), Some(number)) = (
                input
                    .options
                    .get(bound)
                    .filter(|_| matches!(input.kind, Kind::Plain(_))),
                number(&value),
            ) else {
                continue;
            };
            let limit_number = limit.as_f64().unwrap_or_default();
            if if bound == "min" {
                number < limit_number
            } else {
                number > limit_number
            } {
                return Err(error(
                    kind,
                    &format!(
                        "Value {} {word} of {}",
                        python::display(&value),
                        python::display(limit)
                    ),
                    input.name,
                    json!({"input_name": input.name, "input_config": self.config(input), "received_value": value}),
                ));
            }
        }
        let unchecked = self.instance.imitate == Imitate::V0_3_64
            && (class.v3 || matches!(input.kind, Kind::Combo(_, Shape::Combo)));
        let seen = |choices| {
            if self.blind && input.is_model() {
                Vec::new()
            } else {
                choices
            }
        };
        if let Some(choices) = input.choices(&self.instance.folders).map(seen)
            && !unchecked
            && !choices.iter().any(|choice| value.as_str() == Some(choice))
        {
            let long = choices.len() > 20;
            let list = if long {
                format!("(list of length {})", choices.len())
            } else {
                python::repr(&json!(choices))
            };
            return Err(error(
                "value_not_in_list",
                "Value not in list",
                &format!(
                    "{}: '{}' not in {list}",
                    input.name,
                    python::display(&value)
                ),
                json!({"input_name": input.name, "input_config": if long { Value::Null } else { self.config(input) }, "received_value": value}),
            ));
        }
        Ok(value)
    }

    fn file_exists(&self, input: &Input, what: &str, value: Value) -> Result<Value, Value> {
        let name = python::display(&value);
        let path = self
            .instance
            .folders
            .annotated(&name)
            .filter(|path| path.is_file());
        let inside = path.is_some_and(|path| {
            // Newer versions look through links: what leads out of the directory is not there.
            let real = path.canonicalize().unwrap_or_default();
            self.instance.imitate == Imitate::V0_3_64
                || ["input", "output", "temp"]
                    .iter()
                    .filter_map(|kind| self.instance.folders.by_type(kind)?.canonicalize().ok())
                    .any(|root| real.starts_with(root))
        });
        if inside {
            return Ok(value);
        }
        let details = format!("{} - Invalid {what} file: {name}", input.name);
        Err(error(
            "custom_validation_failed",
            "Custom validation failed for node",
            &details,
            json!({"input_name": input.name}),
        ))
    }
}

fn number(value: &Value) -> Option<f64> {
    match python::non_finite(value) {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// `int(v)`, `float(v)`, `str(v)`, `bool(v)`; the text of Python's exception otherwise.
fn coerced(input: &Input, value: &Value) -> Result<Value, String> {
    let Kind::Plain(kind) = input.kind else {
        return Ok(value.clone());
    };
    let wrong = |function: &str| {
        let name = match value {
            Value::Null => "NoneType",
            Value::Object(_) => "dict",
            _ => "list",
        };
        Err(format!(
            "{function} argument must be a string or a real number, not '{name}'"
        ))
    };
    match (kind, value) {
        ("INT", Value::Number(number)) if number.is_f64() => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what Python's int() does to a float within range"
            )]
            let whole = number.as_f64().unwrap_or_default().trunc() as i64;
            Ok(whole.into())
        }
        ("INT" | "FLOAT", Value::Bool(flag)) => Ok(u8::from(*flag).into()),
        ("INT", Value::Number(_)) => Ok(value.clone()),
        ("INT", Value::String(_)) if python::non_finite(value).is_some() => {
            Err("cannot convert float infinity to integer".into())
        }
        ("INT", Value::String(text)) => match text.trim().parse::<i64>() {
            Ok(whole) => Ok(whole.into()),
            Err(_) => Err(format!(
                "invalid literal for int() with base 10: {}",
                python::repr(value)
            )),
        },
        ("FLOAT", Value::Number(number)) => Ok(json!(number.as_f64().unwrap_or_default())),
        ("FLOAT", Value::String(_)) if python::non_finite(value).is_some() => Ok(value.clone()),
        ("FLOAT", Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(json!(number)),
            _ => Err(format!(
                "could not convert string to float: {}",
                python::repr(value)
            )),
        },
        ("INT", _) => wrong("int()"),
        ("FLOAT", _) => wrong("float()"),
        ("STRING", Value::String(_)) => Ok(value.clone()),
        ("STRING", _) => Ok(python::display(value).into()),
        ("BOOLEAN", _) => Ok(python::truthy(value).into()),
        _ => Ok(value.clone()),
    }
}
