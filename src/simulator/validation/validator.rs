//! Walks the graph from its outputs.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::error;
use crate::simulator::args::Imitate;
use crate::simulator::instance::Instance;
use crate::simulator::nodes::Input;
use crate::simulator::python;

/// Deeper chains end as Python's recursion limit ends them.
const DEPTH: usize = 400;

/// A Python exception while validating.
pub(super) struct Exception {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

pub(super) struct Validator<'a> {
    pub(super) instance: &'a Instance,
    pub(super) graph: &'a mut Map<String, Value>,
    /// It sees no models.
    pub(super) blind: bool,
    pub(super) results: HashMap<String, (bool, Vec<Value>)>,
    pub(super) order: Vec<String>,
    pub(super) path: HashSet<String>,
}

impl Validator<'_> {
    pub(super) fn note(&mut self, id: &str, valid: bool, reasons: Vec<Value>) {
        if self
            .results
            .insert(id.to_owned(), (valid, reasons))
            .is_none()
        {
            self.order.push(id.to_owned());
        }
    }

    /// Logs why an output cannot run, and notes it in `details` and at each node.
    pub(super) fn report(
        &self,
        output: &str,
        details: &mut Vec<String>,
        node_errors: &mut Map<String, Value>,
    ) {
        self.instance
            .log(&format!("Failed to validate prompt for output {output}:"));
        for reason in self
            .results
            .get(output)
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
        for id in &self.order {
            let Some((false, reasons)) = self.results.get(id) else {
                continue;
            };
            if reasons.is_empty() {
                continue;
            }
            let class = self
                .graph
                .get(id)
                .map(|node| node["class_type"].clone())
                .unwrap_or_default();
            // The values of clients are in these lines, line breaks and all.
            self.instance
                .log(&format!("* {} {id}:", python::display(&class)));
            for reason in reasons {
                self.instance.log(&format!(
                    "  - {}: {}",
                    python::display(&reason["message"]),
                    python::display(&reason["details"])
                ));
            }
            let entry = node_errors.entry(id.clone()).or_insert_with(
                || json!({"errors": reasons, "dependent_outputs": [], "class_type": class}),
            );
            if let Some(dependent) = entry["dependent_outputs"].as_array_mut() {
                dependent.push(output.into());
            }
        }
    }

    pub(super) fn node(&mut self, id: &str, depth: usize) -> Result<bool, Exception> {
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

    pub(super) fn config(&self, input: &Input) -> Value {
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
                json!({
                    "input_name": input.name,
                    "input_config": config,
                    "received_type": received,
                    "linked_node": value
                }),
            )));
        }
        match self.node(&from_id, depth + 1) {
            Ok(valid) => Ok(valid),
            Err(exception) => {
                let reason = inner_exception(input, &config, value, &exception);
                self.note(&from_id, false, vec![reason]);
                Ok(false)
            }
        }
    }
}

fn inner_exception(input: &Input, config: &Value, link: &Value, exception: &Exception) -> Value {
    error(
        "exception_during_inner_validation",
        "Exception when validating inner node",
        &exception.text,
        json!({
            "input_name": input.name,
            "input_config": config,
            "exception_message": exception.text,
            "exception_type": exception.kind,
            "traceback": ["  File \"execution.py\", line 1, in validate_inputs\n"],
            "linked_node": link
        }),
    )
}
