//! Every span of the page, where it belongs, with its attributes and true times.

use axum::http::StatusCode;
use serde_json::json;

use super::{CALLER, PARENT, STATE, TRACE, loaded, stage};
use crate::delivered::{failing, nowhere, picture};
use crate::support::collector::{Collector, Span, one};
use crate::support::graphs::sampling;
use crate::support::origin::{Origin, Reply};
use crate::support::receiver::{Behaviour, Receiver};

const PNG: &[u8] = include_bytes!("../delivered/one.png");

fn within(child: &Span, parent: &Span) {
    assert_eq!(
        child.parent, parent.id,
        "{child:#?} is not below {parent:#?}"
    );
    assert_eq!(child.trace, parent.trace);
    assert!(
        child.start >= parent.start && child.end <= parent.end && child.start <= child.end,
        "{child:#?} is not within {parent:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_with_everything() {
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    receiver.behave(
        "/hook",
        Behaviour::Sequence(vec![StatusCode::INTERNAL_SERVER_ERROR]),
    );
    let origin = Origin::start(|request, n| match (request.method.as_str(), n) {
        ("PUT", _) => Reply::status(201),
        (_, 0) => Reply::status(503),
        _ => Reply::ok(PNG.to_vec()),
    })
    .await;
    let product = collector.stage(stage()).start().await;
    let body = json!({
        "id": "whole", "prompt": loaded(&origin.url("/a.png?token=planted")),
        "http_upload": {"url_prefix": origin.url("/put?sig=planted")},
        "webhook_v2": receiver.url("/hook?key=planted"),
    });
    let answer = product
        .http
        .post(format!("{}/prompt", product.url))
        .header("traceparent", PARENT)
        .header("tracestate", STATE)
        .header("user-agent", "the-client/1")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202, "{:?}", answer.text().await);
    let hooks = receiver.wait("/hook", 2).await;
    let spans = collector.wait("prompt").await;

    let http = one(&spans, "POST /prompt");
    assert_eq!((&*http.trace, &*http.parent), (TRACE, CALLER));
    assert_eq!((http.kind, http.state.as_str()), ("SERVER", STATE));
    let port = product.url.rsplit(':').next().unwrap();
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/prompt"),
        ("url.path", "/prompt"),
        ("url.scheme", "http"),
        ("http.response.status_code", "202"),
        ("server.address", "127.0.0.1"),
        ("server.port", port),
        ("user_agent.original", "the-client/1"),
    ] {
        http.has(name, value);
    }
    assert!(!http.failed);

    let prompt = one(&spans, "prompt");
    assert_eq!((&*prompt.parent, prompt.kind), (&*http.id, "INTERNAL"));
    for (name, value) in [
        ("comfyui.prompt.id", "whole"),
        ("comfyui.source", "http"),
        ("comfyui.outputs", "1"),
        ("gen_ai.operation.name", "generate_content"),
        ("gen_ai.provider.name", "comfyui"),
        ("gen_ai.output.type", "image"),
    ] {
        prompt.has(name, value);
    }
    prompt.lacks("comfyui.workflow");
    assert!(!prompt.failed);
    let mut before = prompt.start;
    for stage in ["preprocess", "queue", "execute", "postprocess", "upload"] {
        let span = one(&spans, stage);
        within(span, prompt);
        assert_eq!(span.kind, "INTERNAL");
        assert!(span.start >= before, "{stage} begins too early");
        before = span.end;
    }
    let execute = one(&spans, "execute");
    for (class, node) in [("LoadImage", "1"), ("SaveImage", "9")] {
        let span = one(&spans, &format!("node {class}"));
        within(span, execute);
        span.has("comfyui.node.id", node);
        span.has("comfyui.node.class", class);
        span.has("comfyui.node.cached", "false");
    }

    let downloads: Vec<&Span> = spans.iter().filter(|span| span.name == "GET").collect();
    assert_eq!(downloads.len(), 2, "{downloads:#?}");
    for download in &downloads {
        within(download, one(&spans, "preprocess"));
        assert_eq!(download.kind, "CLIENT");
        download.has("url.full", &origin.url("/a.png"));
        download.has("server.address", "127.0.0.1");
        download.has("server.port", &origin.port.to_string());
        download.has("comfyui.cache.hit", "false");
    }
    let again = downloads
        .iter()
        .find(|span| span.attributes.contains_key("http.request.resend_count"))
        .unwrap();
    again.has("http.request.resend_count", "1");
    again.has("http.response.status_code", "200");
    again.has("comfyui.bytes", &PNG.len().to_string());
    let first = downloads.iter().find(|span| span.id != again.id).unwrap();
    first.has("http.response.status_code", "503");
    assert!(first.failed && !again.failed);

    let upload = one(&spans, "PUT");
    within(upload, one(&spans, "upload"));
    assert!(upload.attributes["url.full"].starts_with(&origin.url("/put/")));
    upload.has("http.response.status_code", "201");
    assert!(upload.attributes["comfyui.bytes"].parse::<u64>().unwrap() > 0);

    let mut attempts: Vec<&Span> = spans.iter().filter(|span| span.name == "POST").collect();
    attempts.sort_by_key(|span| span.start);
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    for (n, (attempt, hook)) in attempts.iter().zip(&hooks).enumerate() {
        within(attempt, prompt);
        assert_eq!(attempt.kind, "CLIENT");
        attempt.has("url.full", receiver.url("/hook").as_str());
        attempt.has("comfyui.webhook.id", "whole");
        attempt.has("comfyui.bytes", &hook.len.to_string());
        assert_eq!(
            hook.header("traceparent"),
            format!("00-{TRACE}-{}-01", attempt.id)
        );
        assert_eq!(hook.header("tracestate"), STATE);
        match n {
            0 => {
                attempt.has("http.response.status_code", "500");
                attempt.lacks("http.request.resend_count");
                assert!(attempt.failed);
            }
            _ => {
                attempt.has("http.response.status_code", "200");
                attempt.has("http.request.resend_count", "1");
                assert!(!attempt.failed);
            }
        }
    }
    // Nothing goes to origins.
    for request in origin.requests() {
        assert_eq!(request.header("traceparent"), None, "{request:?}");
    }
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "comfyui-api");
    assert!(!resource["service.instance.id"].is_empty() && !resource["host.name"].is_empty());
    let bytes = collector.bytes();
    assert!(!String::from_utf8_lossy(&bytes).contains("planted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_says_so() {
    let collector = Collector::start().await;
    let origin = Origin::start(|_, _| Reply::ok(PNG.to_vec())).await;
    let product = collector.stage(stage()).start().await;
    let graph = loaded(&origin.url("/a.png"));
    product.run("first", &graph).await;
    product.run("second", &graph).await;
    let spans = collector
        .wait_for("two prompts", |spans| {
            spans.iter().filter(|span| span.name == "prompt").count() == 2
        })
        .await;
    let hits: Vec<&str> = spans
        .iter()
        .filter(|span| span.name == "GET")
        .map(|span| &*span.attributes["comfyui.cache.hit"])
        .collect();
    assert_eq!(hits, ["false", "true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_raises_is_told_and_the_model_is_named() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    let (status, _) = product
        .prompt(&json!({"id": "fails", "prompt": failing()}))
        .await;
    assert_eq!(status, 500);
    let spans = collector.wait("POST /prompt").await;
    let http = one(&spans, "POST /prompt");
    http.has("error.type", "execution_error");
    http.has("http.response.status_code", "500");
    assert!(http.failed);
    let prompt = one(&spans, "prompt");
    prompt.has("error.type", "execution_error");
    assert!(prompt.failed);
    let execute = one(&spans, "execute");
    assert!(execute.failed);
    let (name, attributes) = &execute.events[0];
    assert_eq!(name, "exception");
    assert!(!attributes["exception.type"].is_empty());
    // What the node was given is left out.
    assert!(
        attributes.contains_key("exception.message"),
        "{attributes:?}"
    );
    assert!(!spans.iter().any(|span| span.name == "postprocess"));

    let product = collector
        .stage(stage())
        .file("models/checkpoints/m.safetensors", "weights")
        .start()
        .await;
    product.run("sampled", &sampling(3)).await;
    let spans = collector
        .wait_for("a second prompt", |spans| {
            spans.iter().filter(|span| span.name == "prompt").count() == 2
        })
        .await;
    let prompt = spans
        .iter()
        .find(|span| {
            span.attributes
                .get("comfyui.prompt.id")
                .is_some_and(|id| id == "sampled")
        })
        .unwrap();
    prompt.has("gen_ai.request.model", "m.safetensors");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_prompt_outlives_its_request_and_waits_in_the_queue() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    let dead = nowhere();
    let body = json!({
        "id": "later",
        "prompt": crate::delivered::slow(0.5),
        "async": true,
        "webhook_v2": dead
    });
    let first = product.prompt(&body).await;
    assert!([200, 202].contains(&first.0), "{first:?}");
    let second = product.prompt_later(json!({"id": "behind", "prompt": picture(1)}));
    assert_eq!(second.await.unwrap().0, 200);
    let spans = collector
        .wait_for("the prompt behind", |spans| {
            spans.iter().any(|span| {
                span.name == "prompt"
                    && span
                        .attributes
                        .get("comfyui.prompt.id")
                        .is_some_and(|id| id == "behind")
            })
        })
        .await;
    let behind = spans
        .iter()
        .find(|span| {
            span.attributes
                .get("comfyui.prompt.id")
                .is_some_and(|id| id == "behind")
        })
        .unwrap();
    let queue = spans
        .iter()
        .find(|span| span.name == "queue" && span.parent == behind.id)
        .unwrap();
    assert!(queue.end - queue.start > 100_000_000, "{queue:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_nodes_the_longest() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    let mut graph = picture(1);
    for n in 0..250 {
        graph[format!("s{n}")] = json!({
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": n}
        });
        graph[format!("p{n}")] =
            json!({"class_type": "PreviewImage", "inputs": {"images": [format!("s{n}"), 0]}});
    }
    product.run("many", &graph).await;
    let spans = collector.wait("prompt").await;
    let nodes = spans.iter().filter(|span| span.name.starts_with("node "));
    assert_eq!(nodes.count(), 200);
}
