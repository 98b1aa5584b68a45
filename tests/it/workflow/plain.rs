//! Plain JSON workflows.

use serde_json::{Value, json};

use super::loaded;

const GRAPH: &str = r#"{
  "summary": "Text to image",
  "description": "From JSON alone",
  "input": {
    "type": "object",
    "properties": {
      "text": {"type": "string", "minLength": 1, "maxLength": 10, "pattern": "^[a-z ]+$", "description": "What to draw"},
      "steps": {"type": "integer", "minimum": 1, "exclusiveMaximum": 50, "default": 20},
      "cfg": {"type": "number", "exclusiveMinimum": 0, "maximum": 10, "multipleOf": 0.5, "default": 7.5},
      "sampler": {"enum": ["euler", "ddim"], "default": "euler"},
      "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
      "note": {"type": "string", "nullable": true},
      "mode": {"anyOf": [{"const": "fast"}, {"type": "object", "properties": {"level": {"type": "integer", "default": 3}}, "required": ["level"], "additionalProperties": false}]}
    },
    "required": ["text"]
  },
  "bind": {"text": ["6.inputs.text", "7.inputs.text"], "steps": "3.inputs.steps", "cfg": "3.inputs.cfg", "seed": "3.inputs.seed", "denoise": "3.inputs.denoise", "sampler": "3.inputs.sampler_name"},
  "prompt": {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 5, "cfg": 1, "denoise": 0.75, "sampler_name": "x", "model": ["4", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
  }
}"#;

#[tokio::test]
async fn inputs_are_bound_defaults_filled_and_seeds_drawn() {
    let (_dir, workflows) = loaded(&[("t.json", GRAPH)]).await;
    let generated = workflows
        .generate("t", json!({"text": "a cat", "unknown": 1, "note": null}))
        .await
        .unwrap();
    let seed = generated.input["seed"].as_u64().unwrap();
    assert!(seed < 1 << 53);
    let sampler = &generated.prompt["3"]["inputs"];
    assert_eq!(
        *sampler,
        json!({
            "seed": seed,
            "steps": 20,
            "cfg": 7.5,
            "denoise": 0.75,
            "sampler_name": "euler",
            "model": ["4", 0]
        })
    );
    assert_eq!(
        (
            &generated.prompt["6"]["inputs"]["text"],
            &generated.prompt["7"]["inputs"]["text"]
        ),
        (&json!("a cat"), &json!("a cat"))
    );
    assert!(generated.input.get("unknown").is_none());
    let other = workflows
        .generate("t", json!({"text": "a cat"}))
        .await
        .unwrap();
    assert_ne!(other.input["seed"], generated.input["seed"]);
    let given = workflows
        .generate("t", json!({"text": "a", "seed": 42, "mode": {"level": 1}}))
        .await
        .unwrap();
    assert_eq!(
        (&given.prompt["3"]["inputs"]["seed"], &given.input["seed"]),
        (&json!(42), &json!(42))
    );
}

#[tokio::test]
async fn what_breaks_the_schema_is_named() {
    let (_dir, workflows) = loaded(&[("t.json", GRAPH)]).await;
    let cases: [(Value, &str, &str); 14] = [
        (json!({}), "input.text", "Required"),
        (
            json!({"text": 5}),
            "input.text",
            "Expected string, received number",
        ),
        (
            json!({"text": ""}),
            "input.text",
            "String must contain at least 1 character(s)",
        ),
        (
            json!({"text": "abcdefghijk"}),
            "input.text",
            "String must contain at most 10 character(s)",
        ),
        (json!({"text": "A"}), "input.text", "Invalid"),
        (
            json!({"text": "a", "steps": 0}),
            "input.steps",
            "Number must be greater than or equal to 1",
        ),
        (
            json!({"text": "a", "steps": 50}),
            "input.steps",
            "Number must be less than 50",
        ),
        (
            json!({"text": "a", "steps": 1.5}),
            "input.steps",
            "Expected integer, received float",
        ),
        (
            json!({"text": "a", "cfg": 0}),
            "input.cfg",
            "Number must be greater than 0",
        ),
        (
            json!({"text": "a", "cfg": 0.7}),
            "input.cfg",
            "Number must be a multiple of 0.5",
        ),
        (
            json!({"text": "a", "sampler": "no"}),
            "input.sampler",
            "Invalid enum value. Expected 'euler' | 'ddim', received 'no'",
        ),
        (
            json!({"text": "a", "size": [1, "2"]}),
            "input.size.1",
            "Expected integer, received string",
        ),
        (
            json!({"text": "a", "size": [1]}),
            "input.size",
            "Array must contain at least 2 element(s)",
        ),
        (
            json!({"text": "a", "mode": {"level": "x"}}),
            "input.mode",
            "Invalid input",
        ),
    ];
    for (input, location, message) in cases {
        let failure = workflows.generate("t", input.clone()).await.unwrap_err();
        assert_eq!(
            (
                failure.location.as_deref(),
                failure.message.as_str(),
                failure.status.as_u16()
            ),
            (Some(location), message, 400),
            "{input}"
        );
        assert!(failure.details.is_some());
    }
}

#[tokio::test]
async fn headers_that_do_not_fit_are_not_served_and_bare_graphs_are() {
    let broken = [
        ("a.json", GRAPH.replace("6.inputs.text", "66.inputs.text")),
        ("b.json", GRAPH.replace("6.inputs.text", "6.text")),
        (
            "c.json",
            GRAPH.replace("\"integer\", \"minimum\"", "\"whole\", \"minimum\""),
        ),
        ("d.json", GRAPH.replace("^[a-z ]+$", "([")),
        (
            "e.json",
            GRAPH.replace("\"class_type\": \"SaveImage\", ", ""),
        ),
        (
            "f.json",
            "{\"1\": {\"class_type\": \"X\", \"inputs\": {}}}".to_owned(),
        ),
        ("g.json", "[1]".to_owned()),
    ];
    let files: Vec<(&str, &str)> = broken
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .chain([("good.json", GRAPH)])
        .collect();
    let (_dir, workflows) = loaded(&files).await;
    assert_eq!(super::routes(&workflows), ["/workflow/f", "/workflow/good"]);
    let generated = workflows.generate("f", json!({"x": 1})).await.unwrap();
    assert_eq!(generated.input, json!({}));
    assert_eq!(generated.prompt["1"]["class_type"], "X");
}

#[tokio::test]
async fn the_header_is_the_documentation() {
    let (_dir, workflows) = loaded(&[("t.json", GRAPH)]).await;
    let endpoint = workflows.endpoints().remove(0);
    assert_eq!(
        (endpoint.summary.as_deref(), endpoint.route.as_str()),
        (Some("Text to image"), "/workflow/t")
    );
    assert_eq!(
        endpoint.input_schema["properties"]["steps"],
        json!({"type": "integer", "minimum": 1, "exclusiveMaximum": 50, "default": 20})
    );
    let description = endpoint.description.unwrap();
    assert!(
        description.starts_with(
            "| Field | Type | Description | Default |\n|-|-|-|-|\n| text | string | What to draw \
             | **Required** |\n| steps | number |  | 20 |\n"
        ),
        "{description}"
    );
    assert!(description.ends_with("From JSON alone"));
}
