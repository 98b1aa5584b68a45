//! What comes of tasks that end well, and which events tell of it on the way.

use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::origin::{Origin, Reply};
use crate::support::product::Product;
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_of_its_way_and_ends_with_its_files() {
    let broker = RabbitMq::shared().await;
    let name = unique("events");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let stage = with_checkpoint(member(&broker.uri(), &name))
        .flags("--preview-method auto --step-ms 40")
        .env("AMQP_PREVIEWS", "true");
    let product = stage.start().await;
    let body = json!({"id": "one", "prompt": sampled(15)});
    client.submit(&body).await;
    let events = events_of(&mut client, "one").await;
    let kinds = kinds(&events);
    for kind in [
        "progress",
        "executing",
        "progress_state",
        "status",
        "binary_preview",
    ] {
        assert!(
            kinds.contains_key(format!("event.stream.{kind}").as_str()),
            "no {kind} in {kinds:?}"
        );
    }
    for kind in [
        "execution_start",
        "execution_cached",
        "executed",
        "execution_success",
    ] {
        assert_eq!(
            kinds.get(format!("event.result.{kind}").as_str()),
            Some(&1),
            "{kind} in {kinds:?}"
        );
    }
    for event in &events {
        assert_eq!(event.envelope["protocol_version"], "1.0");
        assert_eq!(event.envelope["task_id"], "one", "{event:?}");
        assert_eq!(event.envelope["metadata"], json!({"region": "eu"}));
        assert!(event.envelope["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(
            event.persistent,
            event.key.starts_with("event.result."),
            "{}",
            event.key
        );
        assert!(
            event.data().get("prompt_id").is_none_or(|id| id == "one"),
            "{event:?}"
        );
    }
    let progress: Vec<&Event> = events
        .iter()
        .filter(|event| event.key == "event.stream.progress")
        .collect();
    let values: Vec<_> = progress
        .iter()
        .map(|event| event.data()["value"].as_u64().unwrap())
        .collect();
    let at = |event: &Event| event.envelope["timestamp"].as_u64().unwrap();
    let took = at(progress[progress.len() - 1]) - at(progress[0]);
    assert!(
        values.len() as u64 <= took / 200 + 2,
        "one per 200 ms and the last: {values:?} in {took} ms"
    );
    assert!(
        values.is_sorted() && values.last() == Some(&15),
        "{values:?}"
    );

    let result = events.last().unwrap().data();
    assert_eq!(
        (&result["id"], &result["filenames"]),
        (&json!("one"), &json!(["one_x_00001_.png"]))
    );
    assert!(
        result["images"][0]
            .as_str()
            .unwrap()
            .starts_with("iVBORw0KGgo"),
        "a PNG in base64"
    );
    assert_eq!(
        (
            &result["outputs"][0]["node_id"],
            &result["outputs"][0]["content_type"]
        ),
        (&json!("save"), &json!("image/png"))
    );
    assert!(
        result["stats"]["comfy_execution"]["nodes"]["sample"]["duration"]
            .as_f64()
            .unwrap()
            >= 500.0,
        "{}",
        result["stats"]
    );
    assert!(
        result["prompt"]["save"]["inputs"]["filename_prefix"]
            .as_str()
            .unwrap()
            .starts_with("one_")
    );

    // The same work again comes from ComfyUI's cache, and says so.
    client
        .submit(&json!({"id": "two", "prompt": sampled(15)}))
        .await;
    let events = events_of(&mut client, "two").await;
    let cached = events
        .iter()
        .find(|event| event.key == "event.result.execution_cached")
        .unwrap();
    assert!(
        cached.data()["nodes"]
            .as_array()
            .unwrap()
            .contains(&json!("sample")),
        "{cached:?}"
    );
    until("all tasks have left", async || client.waiting().await == 0).await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_converted_uploaded_and_reported_like_prompts() {
    let broker = RabbitMq::shared().await;
    let name = unique("delivery");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name).start().await;
    let peer = Receiver::start().await;
    // A workflow as the editor saves it.
    let saved = json!({
        "nodes": [
            {"id": 1, "type": "EmptyImage", "widgets_values": [16, 16, 1, 255]},
            {
                "id": 2,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "widgets_values": ["saved"]
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    });
    let task = json!({"task_id": "saved", "prompt": saved.to_string()});
    client.submit(&task).await;
    let told = events_of(&mut client, "saved").await;
    let result = told.last().unwrap().data();
    assert_eq!(
        result["filenames"],
        json!(["saved_saved_00001_.png"]),
        "{result}"
    );
    client
        .submit(&json!({
            "task_id": "up", "prompt": picture().to_string(), "convert_output": {
                "format": "jpeg",
                "options": {"quality": 50}
            },
            "http_upload": {"url_prefix": peer.url("/files")}, "webhook_v2": peer.url("/hook"),
        }))
        .await;
    let events = events_of(&mut client, "up").await;
    let uploaded = events
        .iter()
        .find(|event| event.key == "event.result.upload_complete")
        .expect("upload_complete");
    assert!(
        uploaded.persistent && uploaded.envelope["task_id"] == "up",
        "{uploaded:?}"
    );
    let said = uploaded.data();
    assert_eq!(
        (&said["prompt_id"], &said["images"]),
        (
            &json!("up"),
            &json!([peer.url("/files/up_picture_00001_.jpeg").as_str()])
        ),
        "{said}"
    );
    let result = events.last().unwrap().data();
    assert_eq!(
        result["filenames"],
        json!(["up_picture_00001_.jpeg"]),
        "{result}"
    );
    let url = result["images"][0].as_str().unwrap();
    assert_eq!(url, peer.url("/files/up_picture_00001_.jpeg").as_str());
    let put = &peer.wait("/files/up_picture_00001_.jpeg", 1).await[0];
    assert_eq!(
        (put.method.as_str(), &put.body[..3]),
        ("PUT", &[0xff, 0xd8, 0xff][..])
    );
    let hook = peer.wait("/hook", 1).await[0].json();
    assert_eq!(
        (&hook["type"], &hook["id"], &hook["images"][0]),
        (&json!("prompt.complete"), &json!("up"), &json!(url))
    );
    product.until_clean().await;

    // Failures reach the webhook too, wherever they happen: in the body, in ComfyUI's checks, in a
    // node.
    let fail = json!({
        "1": {"class_type": "SimFail", "inputs": {"message": "boom"}},
        "9": picture()["9"],
        "2": picture()["1"]
    });
    let mut failing = fail.clone();
    failing["9"]["inputs"]["images"] = json!(["2", 0]);
    let origin = Origin::start(|_, _| Reply::status(404)).await;
    let secret = origin
        .url("/x.png?X-Amz-Signature=MARKED")
        .replace("://", "://user:MARKED@");
    let mut loading = picture();
    loading["1"] = json!({"class_type": "LoadImage", "inputs": {"image": secret}});
    let mut telling = failing.clone();
    telling["1"]["inputs"]["message"] = json!(format!("404 for {secret}"));
    let tasks = [
        (
            json!({"id": "no-graph", "webhook_v2": peer.url("/none")}),
            "/none",
            "invalid_request",
        ),
        (
            json!({
                "id": "bad-class",
                "prompt": {"1": {"class_type": "Nothing", "inputs": {"filename_prefix": "x"}}},
                "webhook_v2": peer.url("/bad")
            }),
            "/bad",
            "invalid_prompt",
        ),
        (
            json!({"id": "boom", "prompt": failing, "webhook_v2": peer.url("/boom")}),
            "/boom",
            "execution_error",
        ),
        // The graph of a task that did not get as far as ComfyUI still holds the URLs with their
        // secrets.
        (
            json!({"id": "missing", "prompt": loading, "webhook_v2": peer.url("/missing")}),
            "/missing",
            "download_failed",
        ),
        (
            json!({"id": "odd", "prompt": loading, "s3": 7, "webhook_v2": peer.url("/odd")}),
            "/odd",
            "invalid_request",
        ),
        (
            json!({"id": "told", "prompt": telling, "webhook_v2": peer.url("/told")}),
            "/told",
            "execution_error",
        ),
    ];
    for (task, path, code) in tasks {
        client.submit(&task).await;
        let (kind, data) = end_of(&mut client, task["id"].as_str().unwrap()).await;
        assert_eq!(
            (kind.as_str(), &data["type"]),
            ("execution_error", &json!(code)),
            "{data}"
        );
        let mut hook = peer.wait(path, 1).await[0].json();
        if path == "/told" {
            // As ComfyUI has it: a text is the client's own matter.
            hook["prompt"].take();
        }
        assert!(!hook.to_string().contains("MARKED"), "{hook}");
        assert_eq!(
            (&hook["type"], &hook["id"], &hook["code"]),
            (&json!("prompt.failed"), &task["id"], &json!(code)),
            "{hook}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_publish_all_prompts_from_http_are_told_of_too() {
    let broker = RabbitMq::shared().await;
    let name = unique("all");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name)
        .env("AMQP_PUBLISH_ALL", "true")
        .start()
        .await;
    product.run("web", &picture()).await;
    let events = events_of(&mut client, "web").await;
    let kinds = kinds(&events);
    for kind in [
        "result.execution_start",
        "result.executed",
        "stream.executing",
        "result.execution_success",
    ] {
        assert!(
            kinds.contains_key(format!("event.{kind}").as_str()),
            "no {kind} in {kinds:?}"
        );
    }
    let result = events.last().unwrap().data();
    assert_eq!(result["filenames"], json!(["web_picture_00001_.png"]));
    assert!(!result["images"][0].as_str().unwrap().is_empty());
    let failing = json!({"9": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "x", "images": ["1", 0]}
    },
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": "wide", "height": 64, "batch_size": 1, "color": 0}
        }});
    let (status, body) = product
        .prompt(&json!({"id": "bad", "prompt": failing}))
        .await;
    assert_eq!(status, 400, "{body}");
    let (kind, data) = end_of(&mut client, "bad").await;
    assert_eq!(
        (
            kind.as_str(),
            &data["type"],
            data["node_errors"].is_object()
        ),
        ("execution_error", &json!("invalid_prompt"), true),
        "{data}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_publish_all_prompts_from_http_are_nobodys_business() {
    let broker = RabbitMq::shared().await;
    let name = unique("own");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product: Product = member(&broker.uri(), &name).start().await;
    product.run("web", &picture()).await;
    client
        .submit(&json!({"id": "task", "prompt": picture()}))
        .await;
    let events = events_of(&mut client, "task").await;
    assert!(
        events
            .iter()
            .all(|event| event.envelope["task_id"] == "task"),
        "{events:?}"
    );
}

/// U1 and F28: tasks without files of type `output`.
#[tokio::test(flavor = "multi_thread")]
async fn previews_texts_and_images_over_the_websocket_are_results_of_tasks() {
    let broker = RabbitMq::shared().await;
    let name = unique("previews");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let _product = member(&broker.uri(), &name).start().await;
    let ended_by = |class: &str| {
        let mut graph = picture();
        graph["9"] = json!({"class_type": class, "inputs": {"images": ["1", 0]}});
        graph
    };
    let text = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "words"}}});
    for (id, graph, files) in [
        ("preview", ended_by("PreviewImage"), 1),
        ("websocket", ended_by("SaveImageWebsocket"), 1),
        ("text", text, 0),
    ] {
        client.submit(&json!({"id": id, "prompt": graph})).await;
        let (end, data) = end_of(&mut client, id).await;
        assert_eq!(end, "execution_success", "{id}: {data}");
        assert_eq!(
            data["images"].as_array().map(Vec::len),
            Some(files),
            "{id}: {data}"
        );
    }
}
