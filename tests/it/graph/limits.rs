//! Workflows that were made to be slow, endless or too large.

use std::time::{Duration, Instant};

use comfyui_api::graph::ui::{Conversion, ConversionError, convert};
use serde_json::{Value, json};

use super::corpus::{CLASSES, moment};

fn converted(workflow: &Value) -> Result<Conversion, ConversionError> {
    let began = Instant::now();
    let converted = convert(workflow.as_object().unwrap(), &CLASSES, moment());
    // Well under a second in release; this is a debug build beside other tests.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    converted
}

fn error(workflow: &Value) -> String {
    converted(workflow).unwrap_err().message
}

fn instance(id: u32, class: &str) -> Value {
    json!({"id": id, "type": class, "inputs": [], "outputs": [{"name": "o", "type": "IMAGE"}]})
}

#[test]
fn definitions_in_themselves_and_too_much_of_them_are_errors() {
    let around = |subgraphs: Vec<Value>| {
        json!({
            "nodes": [instance(1, "d0")],
            "links": [],
            "definitions": {"subgraphs": subgraphs}
        })
    };
    let itself = json!({"id": "d0", "name": "Loop", "nodes": [instance(2, "d0")]});
    assert!(error(&around(vec![itself])).contains("\"Loop\" contains itself"));
    let circle = vec![
        json!({"id": "d0", "name": "A", "nodes": [instance(2, "d1")]}),
        json!({"id": "d1", "name": "B", "nodes": [instance(3, "d0")]}),
    ];
    assert!(error(&around(circle)).contains("contains itself"));
    // Each level doubles: 2^30 nodes, were they laid open.
    let doubling: Vec<Value> = (0..30)
        .map(|level| {
            let inner = format!("d{}", level + 1);
            json!({"id": format!("d{level}"), "nodes": [instance(1, &inner), instance(2, &inner)]})
        })
        .chain([json!({"id": "d30", "nodes": []})])
        .collect();
    assert!(error(&around(doubling)).contains("more than 100000 nodes"));
    let deep: Vec<Value> = (0..10_000)
        .map(|level| {
            let inner = format!("d{}", level + 1);
            json!({"id": format!("d{level}"), "nodes": [instance(1, &inner)]})
        })
        .chain([json!({"id": "d10000", "nodes": []})])
        .collect();
    assert!(error(&around(deep)).contains("nested more than 1000 deep"));
}

#[test]
fn a_group_node_in_itself_is_an_error() {
    let workflow = json!({
        "nodes": [{"id": 1, "type": "workflow>G"}],
        "extra": {"groupNodes": {"G": {"nodes": [{"type": "workflow>G"}], "links": []}}},
    });
    assert!(error(&workflow).contains("holds itself"));
}

#[test]
fn loops_of_reroutes_and_bypassed_nodes_lead_nowhere() {
    let workflow = json!({
        "nodes": [
            {"id": 1, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 2}]},
            {"id": 2, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}]},
            {
                "id": 3,
                "type": "ImageInvert",
                "mode": 4,
                "inputs": [{"name": "image", "type": "IMAGE", "link": 4}]
            },
            {
                "id": 4,
                "type": "ImageInvert",
                "mode": 4,
                "inputs": [{"name": "image", "type": "IMAGE", "link": 3}]
            },
            {
                "id": 5,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 5}],
                "widgets_values": ["x"]
            },
            {
                "id": 6,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 6}],
                "widgets_values": ["x"]
            },
        ],
        "links": [
            [1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 3, 0, 4, 0, "IMAGE"],
            [4, 4, 0, 3, 0, "IMAGE"],
            [5, 1, 0, 5, 0, "IMAGE"], [6, 3, 0, 6, 0, "IMAGE"],
        ],
    });
    let converted = converted(&workflow).unwrap();
    assert_eq!(converted.warnings.len(), 2, "{:?}", converted.warnings);
    for id in ["5", "6"] {
        assert_eq!(
            converted.prompt[id]["inputs"],
            json!({"filename_prefix": "x"})
        );
    }
}

/// One long chain of reroutes with many readers, of one node with very many inputs, and of braces.
#[test]
fn large_workflows_take_linear_time() {
    let length = 6_000;
    let mut nodes = vec![json!({"id": 0, "type": "EmptyImage"})];
    let mut links = Vec::new();
    for id in 1..=length {
        nodes.push(
            json!({"id": id, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": id}]}),
        );
        links.push(json!([id, id - 1, 0, id, 0, "IMAGE"]));
        let (reader, link) = (length + id, length + id);
        nodes.push(json!({
            "id": reader,
            "type": "PreviewImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": link}],
        }));
        links.push(json!([link, id, 0, reader, 0, "IMAGE"]));
    }
    let converted_chain = converted(&json!({"nodes": nodes, "links": links})).unwrap();
    assert_eq!(
        converted_chain.prompt[&(2 * length).to_string()]["inputs"]["images"],
        json!(["0", 0])
    );

    let count = 8_000;
    let inputs: Vec<Value> = (0..count)
        .map(|at| json!({"name": format!("images.image{at}"), "type": "IMAGE", "link": at + 1}))
        .collect();
    let links: Vec<Value> = (0..count)
        .map(|at| json!([at + 1, 0, 0, 1, at, "IMAGE"]))
        .collect();
    let wide = json!({
        "nodes": [
            {"id": 0, "type": "EmptyImage"},
            {"id": 1, "type": "BatchImagesNode", "inputs": inputs}
        ],
        "links": links,
    });
    let converted_wide = converted(&wide).unwrap();
    assert_eq!(
        converted_wide.prompt["1"]["inputs"]
            .as_object()
            .unwrap()
            .len(),
        count
    );

    for text in [
        "{".repeat(1 << 17),
        "{a|".repeat(1 << 16),
        "/*".repeat(1 << 16),
        "%a".repeat(1 << 16),
    ] {
        let braces = json!({"nodes": [
            {"id": 1, "type": "CLIPTextEncode", "widgets_values": [text]},
            {"id": 2, "type": "SaveImage", "widgets_values": [text]},
        ]});
        converted(&braces).unwrap();
    }
}

#[test]
fn integers_keep_every_digit() {
    for seed in [
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(i64::MIN),
    ] {
        let workflow = json!({"nodes": [
            {"id": 1, "type": "KSampler", "widgets_values": [seed, "fixed"]},
            {
                "id": 2,
                "type": "PrimitiveNode",
                "widgets_values": [seed],
                "outputs": [{"name": "INT", "type": "INT", "links": [1]}]
            },
            {
                "id": 3,
                "type": "RandomNoise",
                "inputs": [{
                    "name": "noise_seed",
                    "type": "INT",
                    "link": 1,
                    "widget": {"name": "noise_seed"}
                }]
            },
        ], "links": [[1, 2, 0, 3, 0, "INT"]]});
        let converted = converted(&workflow).unwrap();
        assert_eq!(converted.prompt["1"]["inputs"]["seed"], seed);
        if seed.as_i64().is_none_or(|seed| seed >= 0) {
            assert_eq!(converted.prompt["3"]["inputs"]["noise_seed"], seed);
        }
    }
}

#[test]
fn malformed_workflows_are_errors_that_say_where() {
    for (workflow, says, location) in [
        (json!({"nodes": [{"id": 1}]}), "has no \"type\"", "nodes.0"),
        (json!({"nodes": [null, 5]}), "not an object", "nodes.1"),
        (
            json!({"nodes": [{"id": {}, "type": "A"}]}),
            "has no \"id\"",
            "nodes.0",
        ),
        (
            json!({
                "nodes": [{
                    "id": 7,
                    "type": "Nope",
                    "title": "Mine",
                    "properties": {"cnr_id": "some-pack"}
                }]
            }),
            "\"Nope\" of some-pack (node 7 \"Mine\")",
            "nodes.0",
        ),
        (
            json!({"nodes": [{"id": 7, "type": "12345678-1234-4234-8234-123456789012"}]}),
            "definitions are missing",
            "nodes.0",
        ),
        (
            json!({
                "nodes": [{
                    "id": 3,
                    "type": "SaveImage",
                    "inputs": [{"name": "images", "type": "IMAGE", "link": 5}]
                }],
                "links": [[5, 99, 0, 3, 0, "IMAGE"]],
            }),
            "Link 5 of the workflow, to \"images\" of node 3 \"Save Image\", comes from node 99",
            "links",
        ),
    ] {
        let error = converted(&workflow).unwrap_err();
        assert!(error.message.contains(says), "{error}");
        assert_eq!(error.location, location, "{error}");
    }
    for harmless in [
        json!({"nodes": []}),
        json!({
            "nodes": [{
                "id": 1,
                "type": "KSampler",
                "widgets_values": 5,
                "inputs": {},
                "outputs": 3
            }]
        }),
        json!({
            "nodes": [{"id": "a", "type": "KSampler", "mode": "x", "properties": []}],
            "links": {"a": 1}
        }),
        json!({
            "nodes": [],
            "links": [5, [], ["a"], {"id": 1}],
            "definitions": {"subgraphs": [1, {"id": []}]}
        }),
    ] {
        converted(&harmless).unwrap();
    }
}
