//! F13, F14, F17, F20, U3, U4, D02, D03, D05, D21: the fields of a request and the inputs of its
//! graph.

use serde_json::{Value, json};

use super::{refused, two_pictures};
use crate::support::graphs::{loaded, picture, png, to_base64, with};
use crate::support::product::{Product, Stage};
use crate::support::receiver::Receiver;

/// F17
#[tokio::test]
async fn comfyuis_own_fields_are_passed_on() {
    let script = "import { z } from 'zod'; export default { RequestSchema: z.object({}), \
                  generateWorkflow: () => ({ '1': { class_type: 'EmptyImage', inputs: { width: 8, \
                  height: 8, batch_size: 1, color: 1 } }, '9': { class_type: 'SaveImage', inputs: \
                  { images: ['1', 0], filename_prefix: 'w' } } }) };";
    let product = Stage::new().file("workflows/w.js", script).start().await;
    let body = json!({
        "prompt": two_pictures(),
        "partial_execution_targets": ["10"],
        "front": true,
        "number": -3.5
    });
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["outputs"][0]["node_id"], "10");
    for name in ["partial_execution_targets", "front", "number"] {
        assert_eq!(answer[name], body[name]);
    }
    let body =
        json!({"input": {}, "front": true, "number": 4, "partial_execution_targets": ["no node"]});
    let (status, answer) = product.post("/workflow/w", &body).await;
    assert_eq!(status, 200, "{answer}");
    for (field, value) in [
        ("partial_execution_targets", json!("10")),
        ("partial_execution_targets", json!([10])),
        ("partial_execution_targets", json!(["10", "11"])),
        ("front", json!(1)),
        ("number", json!("1")),
    ] {
        let mut body = json!({"prompt": two_pictures()});
        body[field] = value.clone();
        let answer = product.prompt(&body).await;
        refused(
            &value.to_string(),
            &answer,
            (400, "invalid_request"),
            Some(field),
            "",
        );
    }
}

/// F17: `front` goes ahead of those that wait.
#[tokio::test]
async fn front_goes_ahead() {
    let product = Product::start(&[]).await;
    let first = product
        .prompt_later(json!({"id": "first", "prompt": crate::support::graphs::slow(2.0, 20)}));
    product.until_prompt("first", "running").await;
    let second = product.prompt_later(json!({"id": "second", "prompt": picture("b")}));
    product.until_prompt("second", "pending").await;
    let third = product.prompt_later(json!({"id": "third", "prompt": picture("c"), "front": true}));
    let answers = [
        first.await.unwrap().1,
        second.await.unwrap().1,
        third.await.unwrap().1,
    ];
    let started = |n: usize| {
        answers[n]["stats"]["comfy_execution"]["start"]
            .as_u64()
            .unwrap()
    };
    assert!(
        started(0) <= started(2) && started(2) <= started(1),
        "{answers:?}"
    );
}

/// F14, D05
#[tokio::test]
async fn empty_webhooks_are_none_and_two_are_two() {
    let receiver = Receiver::start().await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let body = json!({"prompt": picture("x"), "webhook": "", "webhook_v2": " "});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 200, "{answer}");
    let body = json!({
        "id": "é 1",
        "prompt": picture("x"),
        "webhook": receiver.url("/old"),
        "webhook_v2": receiver.url("/new")
    });
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 202, "{answer}");
    let old = receiver.wait("/old", 1).await[0].json();
    let new = receiver.wait("/new", 1).await.remove(0);
    assert_eq!(
        (&old["event"], &old["id"]),
        (&json!("output.complete"), &json!("é 1"))
    );
    assert_eq!(
        (&new.json()["type"], &new.json()["id"]),
        (&json!("prompt.complete"), &json!("é 1"))
    );
    assert_eq!(new.header("webhook-id"), "%C3%A9 1");
    let timestamp = new.json()["timestamp"].as_str().unwrap().to_owned();
    let shape: String = timestamp
        .chars()
        .map(|char| if char.is_ascii_digit() { '0' } else { char })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    // Failures are told to both, too.
    let failing = with(
        picture("x"),
        json!({"5": {"class_type": "SimFail", "inputs": {"message": "no paint"}}}),
    );
    let body = json!({
        "prompt": failing,
        "webhook": receiver.url("/old-f"),
        "webhook_v2": receiver.url("/new-f")
    });
    assert_eq!(product.prompt(&body).await.0, 202);
    assert_eq!(
        receiver.wait("/old-f", 1).await[0].json()["event"],
        "prompt.failed"
    );
    assert_eq!(
        receiver.wait("/new-f", 1).await[0].json()["type"],
        "prompt.failed"
    );
}

/// U3, and the rest of U1 that is the request's: prefixes that are no texts stay.
#[tokio::test]
async fn prefixes_are_judged_before_anything_runs() {
    let product = Product::start(&[]).await;
    for prefix in [
        "../x",
        "/abs/x",
        "a/../../b",
        "a\u{0}",
        &"x".repeat(250),
        &format!("{}/x", "y".repeat(201)),
    ] {
        let answer = product.prompt(&json!({"prompt": picture(prefix)})).await;
        let location = Some("prompt.9.inputs.filename_prefix");
        refused(
            prefix,
            &answer,
            (400, "invalid_request"),
            location,
            "filename_prefix",
        );
    }
    for prefix in ["a/../b", "%date:yyyy-MM-dd%/x", "video/"] {
        let (status, answer) = product.prompt(&json!({"prompt": picture(prefix)})).await;
        assert_eq!(status, 200, "{prefix}: {answer}");
    }
    let nothing = json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}
        }
    });
    let answer = product.prompt(&json!({"prompt": nothing})).await;
    let sentence =
        r#"Prompt must contain a node with a "filename_prefix" input, such as "SaveImage""#;
    refused(
        "no outputs",
        &answer,
        (400, "invalid_prompt"),
        Some("prompt"),
        sentence,
    );
    assert_eq!(answer.1["error"], sentence);
}

/// D02, D21
#[tokio::test]
async fn odd_options_and_nodes_do_not_refuse() {
    let product = Product::start(&[("PROMPT_WEBHOOK_RETRIES", "-1")]).await;
    for (options, format, word) in [
        (
            json!({"progressive": true, "optimiseScans": true}),
            "webp",
            "progressive",
        ),
        (
            json!({"lossless": true, "effort": null}),
            "jpeg",
            "lossless",
        ),
        (json!({"nonsense": [1, 2]}), "jpg", "nonsense"),
        (json!({"quality": 0}), "jpeg", "quality"),
        (json!({"quality": 150}), "webp", "100"),
        (json!({"quality": 80.5}), "jpeg", "81"),
    ] {
        let body = json!({
            "prompt": picture("x"),
            "convert_output": {"format": format, "options": options}
        });
        let (status, answer) = product.prompt(&body).await;
        assert_eq!(status, 200, "{options}: {answer}");
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains(word), "{options}: {warnings}");
        assert!(
            answer["filenames"][0]
                .as_str()
                .unwrap()
                .ends_with(&format!(".{format}"))
        );
    }
    let body = json!({
        "prompt": picture("x"),
        "convert_output": {"format": "jpeg", "options": {"quality": "high"}}
    });
    let answer = product.prompt(&body).await;
    refused(
        "quality",
        &answer,
        (400, "invalid_request"),
        Some("convert_output.options.quality"),
        "",
    );
    let bare = with(picture("x"), json!({"7": {"class_type": "PrimitiveInt"}}));
    let (status, answer) = product.prompt(&json!({"prompt": bare})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["prompt"]["7"],
        json!({"class_type": "PrimitiveInt", "inputs": {}})
    );
}

/// F13, F20, D03
#[tokio::test]
async fn media_by_text() {
    let product = Product::start(&[]).await;
    let plain = to_base64(&png([9, 40, 200]));
    let encoded = plain
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    for image in [
        format!("data:image/png;base64,{encoded}"),
        format!("\n \"data:image/png;base64,{plain}\" "),
        format!("data:image/png;base64,{}", plain.replace('+', " ")),
        encoded,
    ] {
        let (status, answer) = product.prompt(&json!({"prompt": loaded(&image)})).await;
        assert_eq!(status, 200, "{image}: {answer}");
        assert_eq!(
            crate::support::graphs::colour_of(&answer["images"][0]),
            [9, 40, 200]
        );
    }
    let html = to_base64(b"<!DOCTYPE html><html><body>Log in</body></html>");
    let broken = format!("{}!{}", &plain[..50], &plain[50..]);
    for (image, word) in [
        (format!("data:image/png;base64,{html}"), "text"),
        (
            format!("data:image/png;base64,{broken}"),
            "character 51, '!'",
        ),
        (broken.clone(), "character 51, '!'"),
        ("/etc/passwd".to_owned(), "/etc/passwd"),
        ("../../x.png".to_owned(), "../../x.png"),
        ("no-such-file.png".to_owned(), "no-such-file.png"),
    ] {
        let answer = product.prompt(&json!({"prompt": loaded(&image)})).await;
        refused(
            &image,
            &answer,
            (400, "invalid_request"),
            Some("prompt.1.inputs.image"),
            word,
        );
    }
    let directory = |list: Value| {
        json!({"prompt": {"10": {"class_type": "VHS_LoadImages", "inputs": {"directory": list}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "x"}}}})
    };
    for (list, location, word) in [
        (
            json!([plain, broken, plain]),
            "prompt.10.inputs.directory.1",
            "character 51",
        ),
        (
            json!([plain, plain, 5]),
            "prompt.10.inputs.directory.2",
            "text",
        ),
        (
            json!([plain, "nothing-like-that.png"]),
            "prompt.10.inputs.directory.1",
            "nothing-like-that.png",
        ),
    ] {
        let answer = product.prompt(&directory(list)).await;
        refused(
            location,
            &answer,
            (400, "invalid_request"),
            Some(location),
            word,
        );
    }
    // An input that is only called `image`: the node judges.
    for text in ["a cat", "", "photo of me.png"] {
        let graph = with(
            picture("x"),
            json!({
                "7": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0], "image": text}}
            }),
        );
        let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
        assert_eq!(status, 200, "{text}: {answer}");
        assert_eq!(answer["prompt"]["7"]["inputs"]["image"], text);
    }
    let graph = with(
        picture("x"),
        json!({
            "7": {
                "class_type": "PreviewAny",
                "inputs": {"source": ["1", 0], "image": "../../etc/passwd"}
            }
        }),
    );
    let answer = product.prompt(&json!({"prompt": graph})).await;
    refused(
        "path",
        &answer,
        (400, "invalid_request"),
        Some("prompt.7.inputs.image"),
        "",
    );
    // An empty upload is ComfyUI's to judge.
    let (status, answer) = product.prompt(&json!({"prompt": loaded("")})).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("invalid_prompt")),
        "{answer}"
    );
}

/// U4
#[tokio::test]
async fn streams_only_for_those_who_want_one() {
    let product = Product::start(&[]).await;
    for (accept, stream) in [
        ("text/event-stream", true),
        ("application/json, text/event-stream", true),
        ("text/event-stream;q=0, application/json", false),
        ("application/json;q=0.9, text/event-stream;q=0.1", false),
        ("*/*", false),
    ] {
        let request = product.http.post(format!("{}/prompt", product.url));
        let request = request
            .header("accept", accept)
            .json(&json!({"prompt": picture("x")}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{accept}");
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(kind == "text/event-stream", stream, "{accept}: {kind}");
        response.bytes().await.unwrap();
    }
}
