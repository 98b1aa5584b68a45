//! F12, F19: how a body is written, and where in it the graph is.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{post, refused};
use crate::support::graphs::picture;
use crate::support::product::Stage;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// F12
#[tokio::test]
async fn bodies_are_read_as_real_clients_send_them() {
    let graph = picture("x");
    let warmup = format!("\u{feff}{}", picture("warm"));
    let plain = format!("\u{feff}{}", json!({"summary": "s", "prompt": graph}));
    let product = Stage::new()
        .env("MAX_BODY_SIZE_MB", 2)
        .file("warmup.json", warmup)
        .file("workflows/plain.json", plain)
        .env("WARMUP_PROMPT_FILE", "warmup.json")
        .start()
        .await;
    let body = json!({"prompt": graph}).to_string();
    let marked = format!("\u{feff}{body}");
    let mut lone = json!({"prompt": graph});
    lone["prompt"]["9"]["_meta"] = json!({"title": "HALF"});
    let lone = lone.to_string().replace("HALF", "a \\ud83d b");
    let large = json!({"prompt": graph, "extra_data": {"x": "y".repeat(1_500_000)}}).to_string();
    for (what, encoding, body) in [
        ("byte-order mark", None, marked.clone().into_bytes()),
        ("lone surrogate", None, lone.into_bytes()),
        ("gzip", Some("gzip"), gzip(body.as_bytes())),
        ("marked gzip", Some("GZIP"), gzip(marked.as_bytes())),
        ("deflate", Some("deflate"), zlib(body.as_bytes())),
        (
            "bare deflate",
            Some("deflate"),
            bare_deflate(body.as_bytes()),
        ),
        ("identity", Some("identity"), body.clone().into_bytes()),
        ("large gzip", Some("gzip"), gzip(large.as_bytes())),
    ] {
        let headers: Vec<_> = encoding
            .map(|name| ("content-encoding", name))
            .into_iter()
            .collect();
        let (status, answer) = post(&product, "/prompt", &headers, body).await;
        assert_eq!(status, 200, "{what}: {answer}");
        assert_eq!(answer["images"].as_array().unwrap().len(), 1, "{what}");
        if what == "lone surrogate" {
            assert_eq!(answer["prompt"]["9"]["_meta"]["title"], "a \u{fffd} b");
        }
    }
    let (status, answer) = post(&product, "/workflow/plain", &[], "\u{feff}{}").await;
    assert_eq!(status, 200, "{answer}");
    let utf16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bomb = gzip(&vec![b' '; 100 << 20]);
    for path in [
        "/prompt",
        "/workflow/plain",
        "/interrupt",
        "/models",
        "/download",
    ] {
        for (what, encoding, body, expected, location, word) in [
            (
                "latin-1",
                None,
                b"{\"id\": \"\xe9\"}".to_vec(),
                (400, "invalid_request"),
                Some("body"),
                "not UTF-8",
            ),
            (
                "UTF-16",
                None,
                utf16.clone(),
                (400, "invalid_request"),
                Some("body"),
                "not UTF-8",
            ),
            (
                "brotli",
                Some("br"),
                b"xxxx".to_vec(),
                (415, "unsupported_media_type"),
                None,
                "\"br\"",
            ),
            (
                "two encodings",
                Some("gzip, deflate"),
                gzip(body.as_bytes()),
                (415, "unsupported_media_type"),
                None,
                "gzip, deflate",
            ),
            (
                "not gzip",
                Some("gzip"),
                body.clone().into_bytes(),
                (400, "invalid_request"),
                Some("body"),
                "decoded",
            ),
            (
                "cut off",
                Some("gzip"),
                gzip(body.as_bytes())[..40].to_vec(),
                (400, "invalid_request"),
                Some("body"),
                "decoded",
            ),
            (
                "bomb",
                Some("gzip"),
                bomb.clone(),
                (413, "payload_too_large"),
                None,
                "MAX_BODY_SIZE_MB",
            ),
        ] {
            let headers: Vec<_> = encoding
                .map(|name| ("content-encoding", name))
                .into_iter()
                .collect();
            let answer = post(&product, path, &headers, body).await;
            refused(&format!("{path} {what}"), &answer, expected, location, word);
        }
    }
}

/// F19
#[tokio::test]
async fn the_graph_is_found_without_its_envelope() {
    let script = "import { z } from 'zod'; export default { RequestSchema: z.object({ prompt: \
                  z.string(), color: z.number().default(7) }), generateWorkflow: (input) => ({ \
                  '1': { class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, \
                  color: input.color } }, '9': { class_type: 'SaveImage', inputs: { images: ['1', \
                  0], filename_prefix: input.prompt } } }) };";
    let product = Stage::new().file("workflows/w.js", script).start().await;
    let graph = picture("x");
    let beside =
        crate::support::graphs::with(graph.clone(), json!({"client_id": "c", "prompt_id": "p"}));
    for body in [
        graph.clone(),
        beside,
        json!({"workflow": graph, "id": "w-1"}),
        json!({"prompt": graph.to_string(), "id": "w-2"}),
        json!({"prompt": null, "workflow": graph.to_string(), "unknown": [1, 2]}),
    ] {
        let (status, answer) = product.prompt(&body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        let sent: Vec<&String> = answer["prompt"].as_object().unwrap().keys().collect();
        assert_eq!(sent, ["1", "9"], "{body}");
        if body["id"].is_string() {
            assert_eq!(answer["id"], body["id"]);
        }
    }
    for (body, word) in [
        (json!({"input": {"workflow": graph}}), "\"input.workflow\""),
        (json!({"input": {"prompt": graph}}), "\"input.prompt\""),
        (json!({"data": graph}), "\"data\""),
        (json!({"prompt": "a red fox"}), "not JSON"),
        (json!({"prompt": "[]"}), "object"),
        (json!({"id": "x"}), "missing"),
        (json!([graph]), ""),
    ] {
        let answer = product.prompt(&body).await;
        let location = if body.is_array() { "body" } else { "prompt" };
        refused(
            &body.to_string(),
            &answer,
            (400, "invalid_request"),
            Some(location),
            word,
        );
    }
    // A workflow endpoint without `input`: what means nothing else is the input.
    for body in [
        json!({"input": {"prompt": "fox", "color": 9}}),
        json!({"prompt": "fox", "color": 9, "id": "mine", "convert_output": {"format": "jpeg"}}),
    ] {
        let (status, answer) = product.post("/workflow/w", &body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        assert_eq!(
            answer["input"],
            json!({"prompt": "fox", "color": 9}),
            "{body}"
        );
        assert_eq!(answer["prompt"]["1"]["inputs"]["color"], Value::from(9));
        let jpeg = answer["filenames"][0].as_str().unwrap().ends_with(".jpeg");
        assert_eq!(jpeg, body.get("convert_output").is_some(), "{answer}");
    }
}
