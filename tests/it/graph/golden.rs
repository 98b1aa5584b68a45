//! What the official editor has made of hundreds of workflows (issue 16).

use comfyui_api::graph::ui::convert;
use serde_json::Value;

use super::corpus::{cases, classes, difference, moment};

#[test]
fn every_case_of_the_corpus_equals_the_editors_graph() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 600, "{} cases", cases.len());
    for case in &cases {
        let converted = convert(&case.workflow, classes(case.packs), moment());
        let why = match (&case.case["expect"]["error"], converted) {
            (Value::Null, Ok(converted)) => difference(&case.case, &converted.prompt),
            (Value::Null, Err(error)) => Some(error.to_string()),
            (_, Ok(_)) => Some("an error is expected".to_owned()),
            (expected, Err(error)) => missing(expected, &error),
        };
        wrong.extend(why.map(|why| format!("{}: {why}", case.id)));
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What an error should name and does not.
fn missing(expected: &Value, error: &comfyui_api::graph::ui::ConversionError) -> Option<String> {
    let details = error.details.clone().unwrap_or_default();
    let mut named: Vec<(&Value, &Value)> = details["unknown_nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| (&node["id"], &node["class_type"]))
        .collect();
    let mut wanted: Vec<(&Value, &Value)> = expected["unknown_nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| (&node["id"], &node["class_type"]))
        .collect();
    if !wanted.is_empty() {
        let by_id = |node: &(&Value, &Value)| node.0.to_string();
        named.sort_by_key(by_id);
        wanted.sort_by_key(by_id);
        if named != wanted {
            return Some(format!("the error names {named:?}, want {wanted:?}"));
        }
    }
    let mentions = expected["mentions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    mentions
        .chain(wanted.iter().filter_map(|(_, class)| class.as_str()))
        .find(|text| !error.message.contains(text))
        .map(|text| format!("the sentence does not name {text}: {error}"))
}
