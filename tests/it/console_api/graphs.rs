//! `GET /workflows`, `POST /graph/inspect`.

use serde_json::{Value, json};

use crate::support::graphs::{loaded, picture, png};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn endpoints_are_listed_with_schemas_that_name_media() {
    let plain = json!({"summary": "Again", "description": "Loads.", "bind": {
        "photo": "1.inputs.image",
        "prefix": "9.inputs.filename_prefix"
    },
        "prompt": loaded("x.png")});
    let script = "import { z } from 'zod';
        export default { RequestSchema: z.object({ width: \
                  z.number().int().default(64).describe('Pixels') }), summary: 'Made', \
                  generateWorkflow: () => ({}) };";
    let product = Stage::new()
        .file("workflows/z/again.json", plain.to_string())
        .file("workflows/made.js", script)
        .start()
        .await;
    let (status, list) = product.get("/workflows").await;
    assert_eq!(status, 200);
    let paths: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/workflow/made", "/workflow/z/again"], "{list}");
    let (made, again) = (&list[0], &list[1]);
    assert_eq!(
        (&made["source"], &made["name"], &made["summary"]),
        (&json!("js"), &json!("made"), &json!("Made"))
    );
    assert_eq!(made["input"]["properties"]["width"]["default"], 64);
    assert_eq!(
        (&again["source"], &again["name"], &again["description"]),
        (&json!("json"), &json!("z/again"), &json!("Loads."))
    );
    assert_eq!(
        again["input"]["properties"]["photo"]["contentMediaType"], "image/*",
        "{again}"
    );
    assert!(
        again["input"]["properties"]["prefix"]
            .get("contentMediaType")
            .is_none()
    );
}

async fn inspect(product: &Product, content_type: &str, body: Vec<u8>) -> (u16, Value) {
    let sent = product
        .http
        .post(format!("{}/graph/inspect", product.url))
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .unwrap();
    let status = sent.status().as_u16();
    (status, sent.json().await.unwrap())
}

#[tokio::test]
async fn a_graph_is_described_as_a_form_wherever_it_comes_from() {
    let product = Product::start(&[]).await;
    let graph = crate::support::graphs::sampling(4);
    let (status, form) = inspect(&product, "application/json", graph.to_string().into()).await;
    assert_eq!(
        (status, &form["format"], &form["prompt"]),
        (200, &json!("api"), &graph),
        "{form}"
    );
    let fields = form["fields"].as_array().unwrap();
    let primary: Vec<&str> = fields
        .iter()
        .filter(|field| field["primary"] == true)
        .map(|field| field["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        primary,
        [
            "6.inputs.text",
            "3.inputs.seed",
            "5.inputs.width",
            "5.inputs.height",
            "3.inputs.steps",
            "4.inputs.ckpt_name"
        ]
    );
    let seed = fields
        .iter()
        .find(|field| field["path"] == "3.inputs.seed")
        .unwrap();
    assert_eq!(
        (
            &seed["node_id"],
            &seed["class_type"],
            &seed["label"],
            &seed["value"]
        ),
        (
            &json!("3"),
            &json!("KSampler"),
            &json!("KSampler #3: seed"),
            &json!(5)
        )
    );
    assert_eq!(
        (&seed["schema"]["type"], &seed["schema"]["minimum"]),
        (&json!("integer"), &json!(0))
    );
    assert!(
        fields.iter().all(|field| field["path"] != "3.inputs.model"),
        "links are left out"
    );
    assert_eq!(
        form["outputs"],
        json!([{"node_id": "9", "class_type": "SaveImage", "title": "SaveImage"}])
    );
    // The same from the editor's format, of which the author has chosen what to show.
    let saved = json!({
        "nodes": [
            {"id": 1, "type": "EmptyImage", "title": "Ground", "widgets_values": [64, 32, 1, 0]},
            {
                "id": 2,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "widgets_values": ["ComfyUI"]
            }],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "extra": {"linearData": {"inputs": [["2", "filename_prefix"], [1, "height"]]}}});
    let (status, form) = inspect(&product, "application/json", saved.to_string().into()).await;
    assert_eq!((status, &form["format"]), (200, &json!("ui")), "{form}");
    let shown: Vec<(&str, bool)> = form["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| {
            (
                field["label"].as_str().unwrap(),
                field["primary"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown[..3],
        [
            ("Save Image #2: filename_prefix", true),
            ("Ground #1: height", true),
            ("Ground #1: width", false)
        ],
        "{form}"
    );
    // And from the picture that it made.
    let (status, answer) = product
        .prompt(&json!({"prompt": picture("made"), "extra_data": {"extra_pnginfo": {}}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let made = crate::support::graphs::from_base64(&answer["images"][0]);
    let (status, form) = inspect(&product, "image/png", made).await;
    assert_eq!((status, &form["format"]), (200, &json!("api")), "{form}");
    for bad in [png([1, 2, 3]), b"{}".to_vec(), b"nothing".to_vec()] {
        let (status, answer) = inspect(&product, "application/octet-stream", bad).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("invalid_prompt")),
            "{answer}"
        );
    }
}
