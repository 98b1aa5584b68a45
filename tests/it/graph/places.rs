//! The editor's workflows in every place that takes a graph (ui-format.md, section 2).

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::product::{BINARY, Product, Stage};

/// A picture of one colour, made inside a subgraph.
fn saved() -> Value {
    json!({
        "last_node_id": 9, "version": 0.4,
        "nodes": [
            {
                "id": 7,
                "type": "make",
                "title": "Maker",
                "inputs": [],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]
            },
            {
                "id": 9,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "widgets_values": ["saved"]
            },
        ],
        "links": [[1, 7, 0, 9, 0, "IMAGE"]],
        "extra": {"linearData": {"inputs": [["9", "filename_prefix"], [5, "gone"]]}},
        "definitions": {"subgraphs": [{
            "id": "make", "name": "Make", "inputs": [], "outputs": [{
                "name": "IMAGE",
                "type": "IMAGE",
                "linkIds": [2]
            }],
            "nodes": [{"id": 3, "type": "EmptyImage", "title": "Blue", "outputs": [{
                "name": "IMAGE",
                "type": "IMAGE",
                "links": [2]
            }],
                       "widgets_values": [32, 32, 1, 255]}],
            "links": [{
                "id": 2,
                "origin_id": 3,
                "origin_slot": 0,
                "target_id": -20,
                "target_slot": 0,
                "type": "IMAGE"
            }],
        }]},
    })
}

fn png(answer: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let text = answer["images"][0].as_str().unwrap();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

/// The inner value of a picture's text chunk.
fn inside(picture: &[u8], source: &str) -> Value {
    use comfyui_api::graph::embedded::{Preference, recognise_bytes};
    use comfyui_api::graph::recognise::Recognised;
    let preference = if source == "workflow" {
        Preference::Workflow
    } else {
        Preference::Prompt
    };
    match recognise_bytes(picture, preference).unwrap() {
        Recognised::Ui(found) | Recognised::Api(found) => found.into(),
    }
}

async fn convert(product: &Product, query: &str, body: Vec<u8>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("{}/convert{query}", product.url))
        .body(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_workflows_run_over_http_and_warm_up() {
    let saved = saved();
    let product = Stage::new().file("warm.json", saved.to_string());
    let warm = product.path("warm.json");
    let product = product
        .env("WARMUP_PROMPT_FILE", warm.display())
        .start()
        .await;
    product.log.line("warm").await;
    let bodies = [
        json!({"prompt": saved, "id": "a"}),
        json!({"workflow": saved}),
        json!({"prompt": saved.to_string()}),
        json!({"prompt": {"workflow": saved}}),
        saved.clone(),
    ];
    for body in &bodies {
        let (status, answer) = product.prompt(body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["prompt"]["7:3"]["class_type"], "EmptyImage",
            "{answer}"
        );
        assert_eq!(answer["prompt"]["9"]["inputs"]["images"], json!(["7:3", 0]));
        assert!(
            answer["stats"]["comfy_execution"]["nodes"]
                .get("7:3")
                .is_some(),
            "{answer}"
        );
        let picture = png(&answer);
        assert_eq!(
            inside(&picture, "workflow"),
            saved,
            "the picture can be opened again"
        );
        // A picture is a workflow itself.
        let (status, converted) = convert(&product, "", picture.clone()).await;
        assert_eq!(
            (status, &converted["format"]),
            (200, &json!("api")),
            "{converted}"
        );
        let (status, converted) = convert(&product, "?source=workflow", picture).await;
        assert_eq!(
            (status, &converted["format"]),
            (200, &json!("ui")),
            "{converted}"
        );
        assert_eq!(
            converted["prompt"]["9"]["inputs"]["images"],
            json!(["7:3", 0])
        );
    }
    // What the request brings goes before the workflow.
    let own = json!({
        "prompt": saved,
        "extra_data": {"extra_pnginfo": {"workflow": {"nodes": [], "mine": 1}}}
    });
    let (status, answer) = product.prompt(&own).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(inside(&png(&answer), "workflow")["mine"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_that_cannot_run_say_which_node_and_why() {
    let product = Stage::new().start().await;
    let mut unknown = saved();
    unknown["definitions"]["subgraphs"][0]["nodes"][0]["type"] = json!("Nowhere");
    unknown["definitions"]["subgraphs"][0]["nodes"][0]["properties"] =
        json!({"cnr_id": "some-pack"});
    let (status, answer) = product.prompt(&json!({"prompt": unknown})).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("invalid_prompt")),
        "{answer}"
    );
    let sentence = answer["error"].as_str().unwrap();
    assert!(
        sentence.contains("\"Nowhere\" of some-pack (node 7:3 \"Blue\" in \"Maker\")"),
        "{sentence}"
    );
    assert_eq!(
        answer["details"]["unknown_nodes"],
        json!([{
            "id": "7:3",
            "class_type": "Nowhere",
            "title": "\"Blue\" in \"Maker\"",
            "cnr_id": "some-pack"
        }])
    );
    assert!(
        answer["location"].as_str().unwrap().starts_with("prompt."),
        "{answer}"
    );
    // ComfyUI's own words about an inner node.
    let mut wrong = saved();
    wrong["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"] = json!([32, 32, 1, "blue"]);
    let (status, answer) = product.prompt(&json!({"prompt": wrong})).await;
    assert_eq!(status, 400, "{answer}");
    let sentence = answer["error"].as_str().unwrap();
    assert!(
        sentence.contains("node 7:3 \"Blue\" in \"Maker\" (EmptyImage)"),
        "{sentence}"
    );
    // Nothing to do.
    let (status, answer) = product.prompt(&json!({"nodes": [], "links": []})).await;
    assert_eq!(
        (status, &answer["location"]),
        (400, &json!("prompt")),
        "{answer}"
    );
    for (query, body, code, says) in [
        ("", "[]", "invalid_prompt", "a list was found"),
        ("", "{\"nodes\": {}}", "invalid_prompt", "not a list"),
        ("", "GIF89a", "invalid_prompt", "neither JSON nor"),
        ("?source=x", "{}", "invalid_request", "\"source\" must be"),
    ] {
        let (status, answer) = convert(&product, query, body.into()).await;
        assert_eq!((status, &answer["code"]), (400, &json!(code)), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(says), "{answer}");
    }
    let graph = json!({"1": {"class_type": "Anything", "inputs": {"x": 5.0}, "extra": 1}});
    let (status, answer) = convert(&product, "", json!({"prompt": graph}).to_string().into()).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"prompt": graph, "format": "api", "warnings": []})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_converted_before_comfyui_is_known() {
    let product = Stage::new().flags("--slow-start 30").launch().await;
    let (status, answer) = convert(&product, "", saved().to_string().into()).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("comfyui_unavailable")),
        "{answer}"
    );
    let graph = json!({"1": {"class_type": "A", "inputs": {}}});
    assert_eq!(convert(&product, "", graph.to_string().into()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_editor_become_endpoints() {
    let saved = saved();
    let header = json!({
        "input": {"type": "object", "properties": {"colour": {"type": "integer"}}},
        "bind": {"colour": "7:3.inputs.color"},
        "prompt": saved,
    });
    let broken = json!({"bind": {"colour": "7:4.inputs.color"}, "prompt": saved});
    let graph = crate::support::graphs::picture("bare");
    let picture = {
        let text = [b"prompt\0".as_slice(), graph.to_string().as_bytes()].concat();
        super::embedded::png(b"tEXt", &text)
    };
    let product = Stage::new()
        .file("flows/app.json", saved.to_string())
        .file("flows/header.json", header.to_string())
        .file("flows/broken.json", broken.to_string())
        .file("flows/bare.json", graph.to_string())
        .file("flows/picture.png", picture)
        .file("flows/other.png", b"\x89PNG\r\n\x1a\n");
    let flows = product.path("flows");
    let product = product.env("WORKFLOW_DIR", flows.display()).start().await;
    let (status, answer) = product
        .post(
            "/workflow/app",
            &json!({"input": {"filename_prefix": "mine"}}),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["filenames"][0].as_str().unwrap().contains("mine"),
        "{answer}"
    );
    assert!(
        answer["warnings"][0]
            .as_str()
            .unwrap()
            .contains("\"gone\" of node 5"),
        "{answer}"
    );
    assert_eq!(inside(&png(&answer), "workflow"), saved);
    let (status, answer) = product.post("/workflow/app", &json!({"input": {}})).await;
    assert_eq!(
        (status, &answer["input"]),
        (200, &json!({"filename_prefix": "saved"})),
        "{answer}"
    );
    let (status, answer) = product
        .post("/workflow/header", &json!({"input": {"colour": 7}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["prompt"]["7:3"]["inputs"]["color"], 7);
    for name in ["bare", "picture"] {
        let (status, answer) = product.post(&format!("/workflow/{name}"), &json!({})).await;
        assert_eq!(status, 200, "{answer}");
    }
    for name in ["broken", "other"] {
        assert_eq!(
            product
                .post(&format!("/workflow/{name}"), &json!({}))
                .await
                .0,
            404,
            "{name}"
        );
    }
    let (_, document) = product.get("/openapi.json").await;
    let schema = document["paths"]["/workflow/app"].to_string();
    assert!(schema.contains("filename_prefix"), "{schema}");
}

fn command(arguments: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(BINARY)
        .arg("convert")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn the_command_converts_files_and_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let info = json!({
        "EmptyImage": {
            "input": {
                "required": {
                    "width": ["INT", {}],
                    "height": ["INT", {}],
                    "batch_size": ["INT", {}],
                    "color": ["INT", {}]
                }
            },
            "output": ["IMAGE"]
        },
        "SaveImage": {
            "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
            "output": []
        },
    });
    std::fs::write(at("info.json"), info.to_string()).unwrap();
    std::fs::write(at("saved.json"), saved().to_string()).unwrap();
    let nodes = ["--object-info", &at("info.json")];
    for (arguments, input) in [
        (vec![at("saved.json")], String::new()),
        (vec!["-".to_owned()], saved().to_string()),
    ] {
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain(nodes.iter().copied())
            .collect();
        let output = command(&arguments, &input);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let graph: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(graph["7:3"]["inputs"]["color"], 255);
    }
    let output = command(
        &[
            &at("saved.json"),
            nodes[0],
            nodes[1],
            "-o",
            &at("graph.json"),
        ],
        "",
    );
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    // A graph needs no nodes to be known.
    let again = command(&[&at("graph.json")], "");
    assert!(again.status.success(), "{again:?}");
    let unknown = json!({"nodes": [{"id": 1, "type": "Nowhere"}]}).to_string();
    for (arguments, input, code, says) in [
        (
            vec!["-", nodes[0], nodes[1]],
            unknown.as_str(),
            1,
            "\"Nowhere\" (node 1",
        ),
        (vec!["-"], "[]", 1, "a list was found"),
        (vec!["/nowhere.json"], "", 1, "cannot be read"),
        (
            vec!["-", "--comfyui", "http://127.0.0.1:9"],
            unknown.as_str(),
            1,
            "does not say which nodes",
        ),
        (vec![], "", 2, "FILE"),
        (vec!["-", "--nonsense"], "", 2, "--nonsense"),
    ] {
        let output = command(&arguments, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
