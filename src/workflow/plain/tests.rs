use std::path::Path;

use serde_json::json;

use super::*;
use crate::workflow::source::Fault;

fn reading(document: &Value) -> Result<Option<PlainWorkflow>, Fault> {
    read(Path::new("w.json"), &document.to_string(), None)
}

#[test]
fn a_header_without_a_graph_is_an_error_and_other_json_is_ignored() {
    let node = json!({"class_type": "X", "inputs": {}});
    for (document, expected) in [
        (json!({"bind": {}}), "there is \"bind\" but no \"prompt\""),
        (
            json!({"summary": "s", "input": {"type": "object"}}),
            "there is \"input\" but no \"prompt\"",
        ),
        (
            json!({"input": {}, "prompt": "a cat"}),
            "\"prompt\" must be an object of nodes",
        ),
        (
            json!({"input": {}, "prompt": null}),
            "\"prompt\" must be an object of nodes",
        ),
        (
            json!({"bind": {}, "prompt": node}),
            "\"prompt\" must be an object of nodes",
        ),
    ] {
        let fault = reading(&document).unwrap_err();
        assert!(
            fault.message.contains(expected) && fault.line == 1,
            "{document}: {fault:?}"
        );
    }
    for document in [json!({"name": "x"}), json!({"prompt": "a cat"}), json!([1])] {
        assert!(reading(&document).unwrap().is_none(), "{document}");
    }
    for document in [
        json!({"prompt": {"1": node}}),
        // Bare graphs, of which one has nodes called like the header's members.
        json!({"1": node}),
        json!({"prompt": node, "input": node, "bind": node}),
        json!({"nodes": [], "links": []}),
    ] {
        assert!(reading(&document).unwrap().is_some(), "{document}");
    }
}

#[test]
fn bound_names_that_an_alternative_describes_are_left_to_it() {
    let workflow = reading(&json!({
        "input": {"allOf": [
            {"properties": {"text": {"type": "string"}}, "required": ["text"]},
            {"properties": {"seed": {"type": "integer", "minimum": 5, "maximum": 6}}},
        ]},
        "bind": {"text": "1.inputs.text", "seed": "1.inputs.seed"},
        "prompt": {"1": {"class_type": "X", "inputs": {"text": "old", "seed": 1}}},
    }));
    let workflow = workflow.unwrap().unwrap();
    let Err(Refusal::Input(issues)) = workflow.generate(&json!({}), None) else {
        panic!("accepted")
    };
    assert_eq!(issues[0].path, [json!("text")]);
    let Generated { input, prompt, .. } = workflow
        .generate(&json!({"text": "new", "junk": 1}), None)
        .unwrap();
    let seed = input["seed"].as_u64().unwrap();
    assert!((5..=6).contains(&seed));
    assert_eq!(input, json!({"text": "new", "seed": seed}));
    assert_eq!(prompt["1"]["inputs"], json!({"text": "new", "seed": seed}));
}
