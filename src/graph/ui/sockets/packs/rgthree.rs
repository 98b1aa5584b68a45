//! rgthree-comfy: widgets that its JavaScript makes.

use serde_json::{Value, json};

use super::add;
use crate::graph::ui::model::Node;
use crate::graph::ui::text;

pub fn finish(node: &mut Node<'_>) {
    match node.class {
        "Power Lora Loader (rgthree)" => loras(node),
        "Power Primitive (rgthree)" => primitive(node),
        "Power Puter (rgthree)" => puter(node),
        _ => {}
    }
}

/// Every saved object with a `lora` is one row.
fn loras(node: &mut Node<'_>) {
    let separate = node.raw.property("Show Strengths").and_then(Value::as_str)
        == Some("Separate Model & Clip");
    let rows = node
        .raw
        .list("widgets_values")
        .iter()
        .filter(|value| value.get("lora").is_some());
    for (place, row) in rows.enumerate() {
        let mut row = row.clone();
        if let Some(row) = row.as_object_mut() {
            if !separate {
                row.shift_remove("strengthTwo");
            } else if row.get("strengthTwo").is_none_or(Value::is_null) {
                row.insert("strengthTwo".into(), json!(1));
            }
        }
        add(node, format!("lora_{}", place + 1), row);
    }
}

fn primitive(node: &mut Node<'_>) {
    let [kind, value, ..] = node.raw.list("widgets_values") else {
        return;
    };
    let Some(kind) = kind.as_str() else { return };
    let kind = if kind == "BOOL" { "BOOLEAN" } else { kind };
    let value = match kind {
        "INT" => whole(value),
        "FLOAT" => fraction(value),
        "BOOLEAN" => match value {
            Value::String(text) => {
                json!(!matches!(
                    text.trim().to_ascii_lowercase().as_str(),
                    "" | "false" | "0" | "no"
                ))
            }
            value => json!(text::is_truthy(value)),
        },
        "STRING" => json!(text::javascript(value)),
        _ => value.clone(),
    };
    add(node, "type".to_owned(), json!(kind));
    add(node, "value".to_owned(), value);
}

fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => value.clone(),
        Value::Number(number) => number
            .as_f64()
            .map_or(json!(0), |float| json!(float.trunc() as i64)),
        Value::String(text) => {
            let text = text.trim();
            let exact = text
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| text.parse::<u64>().map(Value::from));
            exact.unwrap_or_else(|_| {
                text.parse::<f64>()
                    .map_or(json!(0), |float| json!(float.trunc() as i64))
            })
        }
        value => json!(i64::from(text::is_truthy(value))),
    }
}

fn fraction(value: &Value) -> Value {
    match value {
        Value::Number(_) => value.clone(),
        Value::String(text) => {
            let text = text.trim();
            let exact = text.parse::<i64>().map(Value::from);
            exact.unwrap_or_else(|_| json!(text.parse::<f64>().unwrap_or(0.0)))
        }
        value => json!(i64::from(text::is_truthy(value))),
    }
}

/// `outputs` as an object or, in older files, a text; and the code.
fn puter(node: &mut Node<'_>) {
    let values = node.raw.list("widgets_values");
    let outputs = values.first().map(|first| match first {
        Value::Object(_) => first.clone(),
        Value::Array(_) => json!({"outputs": first}),
        other => json!({"outputs": [text::javascript(other)]}),
    });
    if let Some(outputs) = outputs {
        add(node, "outputs".to_owned(), outputs);
    }
    if let Some(code) = values.get(1) {
        add(node, "code".to_owned(), code.clone());
    }
}
