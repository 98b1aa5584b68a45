//! The context that comes in and goes out, with and without an exporter, over a restart too.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{CALLER, PARENT, STATE, TRACE, stage};
use crate::delivered::picture;
use crate::support::collector::{Collector, one};
use crate::support::product::Product;
use crate::support::receiver::{Behaviour, Received, Receiver};

/// `POST /prompt` with a context.
pub(super) async fn prompt(product: &Product, parent: &str, state: Option<&str>, body: &Value) {
    let mut request = product
        .http
        .post(format!("{}/prompt", product.url))
        .header("traceparent", parent)
        .json(body);
    if let Some(state) = state {
        request = request.header("tracestate", state);
    }
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

pub(super) fn context(request: &Received) -> (String, String) {
    let text = |name| request.header(name).to_owned();
    (text("traceparent"), text("tracestate"))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_it_is_passed_on_unchanged() {
    let receiver = Receiver::start().await;
    let product = stage()
        .env("SYSTEM_WEBHOOK_URL", receiver.url("/system"))
        .env("SYSTEM_WEBHOOK_EVENTS", "executed,execution_success")
        .start()
        .await;
    // Of a version to come, to be passed on as it is.
    let later = format!("cc{}-and-more", &PARENT[2..]);
    for (id, parent) in [("a", PARENT), ("b", later.as_str())] {
        let body = json!({"id": id, "prompt": picture(1),
            "webhook_v2": receiver.url(&format!("/{id}/v2")),
            "webhook": receiver.url(&format!("/{id}/old"))});
        prompt(&product, parent, Some(STATE), &body).await;
        for path in [format!("/{id}/v2"), format!("/{id}/old")] {
            let sent = receiver.wait(&path, 1).await;
            assert_eq!(context(&sent[0]), (parent.to_owned(), STATE.to_owned()));
        }
    }
    let system = receiver.wait("/system", 4).await;
    let first = system
        .iter()
        .filter(|event| context(event).0 == PARENT)
        .count();
    assert_eq!(first, 2, "{system:?}");
    // A malformed one is none.
    for (n, bad) in ["00-nonsense", "", &PARENT.to_uppercase()]
        .iter()
        .enumerate()
    {
        let body = json!({
            "id": format!("bad{n}"),
            "prompt": picture(1),
            "webhook_v2": receiver.url("/bad")
        });
        prompt(&product, bad, Some(STATE), &body).await;
    }
    for sent in receiver.wait("/bad", 3).await {
        assert_eq!(context(&sent), (String::new(), String::new()));
    }
    let lines = product.log.lines();
    let about = |id: &str| {
        let lines = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["id"] == id && line["msg"].as_str().unwrap().starts_with("prompt"))
            .collect::<Vec<_>>()
    };
    let told = about("a");
    assert!(told.len() >= 2, "{lines:?}");
    for line in told {
        assert_eq!(line["trace_id"], TRACE, "{line}");
        assert_eq!(line["span_id"], CALLER, "{line}");
    }
    for line in about("bad0") {
        assert!(line.get("trace_id").is_none(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_the_v2_api_pass_it_on_too() {
    let (receiver, collector) = (Receiver::start().await, Collector::start().await);
    for exporting in [false, true] {
        let stage = stage().env(
            "V2_DEFAULTS",
            json!({"webhook_v2": receiver.url("/v2")}).to_string(),
        );
        let stage = if exporting {
            collector.stage(stage)
        } else {
            stage
        };
        let product = stage.start().await;
        let answer = product
            .http
            .post(format!("{}/api/v2/jobs", product.url))
            .header("traceparent", PARENT)
            .json(&json!({"workflow": picture(1)}))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        let sent = receiver.wait("/v2", 1 + usize::from(exporting)).await;
        let (parent, _) = context(sent.last().unwrap());
        if exporting {
            let spans = collector.wait("prompt").await;
            one(&spans, "prompt").has("comfyui.source", "v2");
            assert_eq!(one(&spans, "prompt").trace, TRACE);
            assert_eq!(parent, format!("00-{TRACE}-{}-01", one(&spans, "POST").id));
            one(&spans, "POST /api/v2/jobs");
        } else {
            assert_eq!(parent, PARENT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampled_flag_is_honoured() {
    let (receiver, collector) = (Receiver::start().await, Collector::start().await);
    let product = collector.stage(stage()).start().await;
    let unsampled = format!("{}00", &PARENT[..53]);
    let body = json!({"id": "quiet", "prompt": picture(1), "webhook_v2": receiver.url("/hook")});
    prompt(&product, &unsampled, None, &body).await;
    let sent = receiver.wait("/hook", 1).await;
    let (parent, _) = context(&sent[0]);
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"),
        "{parent}"
    );
    let line: Value = serde_json::from_str(&product.log.line("prompt succeeded").await).unwrap();
    assert_eq!(line["trace_id"], TRACE);
    product.run("loud", &picture(1)).await;
    let spans = collector.wait("prompt").await;
    assert!(spans.iter().all(|span| span.trace != TRACE), "{spans:#?}");
    one(&spans, "prompt").has("comfyui.prompt.id", "loud");
}

#[tokio::test(flavor = "multi_thread")]
async fn samplers_have_their_standard_names() {
    for (name, argument, root, child) in [
        ("always_off", "", 0, 0),
        ("always_on", "", 1, 1),
        ("parentbased_always_off", "", 0, 1),
        ("parentbased_traceidratio", "0", 0, 1),
        ("traceidratio", "0", 0, 0),
    ] {
        let collector = Collector::start().await;
        let mut product = collector
            .stage(stage())
            .env("OTEL_TRACES_SAMPLER", name)
            .env("OTEL_TRACES_SAMPLER_ARG", argument)
            .start()
            .await;
        product.run("root", &picture(1)).await;
        let body = json!({"id": "child", "prompt": picture(1)});
        prompt(&product, PARENT, None, &body).await;
        assert_eq!(product.stop().await, Some(0));
        let spans = collector.spans();
        let count = |id: &str| {
            let of = |span: &&crate::support::collector::Span| {
                span.attributes
                    .get("comfyui.prompt.id")
                    .is_some_and(|known| known == id)
            };
            spans.iter().filter(of).count()
        };
        assert_eq!((count("root"), count("child")), (root, child), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spooled_webhook_keeps_it_over_a_restart() {
    for exporting in [false, true] {
        let (receiver, collector) = (Receiver::start().await, Collector::start().await);
        let spool = tempfile::tempdir().unwrap();
        receiver.behave(
            "/hook",
            Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR),
        );
        let stage = || {
            let stage = stage()
                .env("WEBHOOK_SPOOL_DIR", spool.path().display())
                .env("PROMPT_WEBHOOK_RETRIES", "0");
            if exporting {
                collector.stage(stage)
            } else {
                stage
            }
        };
        let mut product = stage().start().await;
        let body = json!({"id": "kept", "prompt": picture(1), "webhook_v2": receiver.url("/hook")});
        prompt(&product, PARENT, Some(STATE), &body).await;
        receiver.wait("/hook", 1).await;
        assert_eq!(product.stop().await, Some(0));
        let id = exporting.then(|| {
            let spans = collector.spans();
            let prompt = one(&spans, "prompt");
            assert!(!prompt.failed);
            prompt.id.clone()
        });
        let before = receiver.at("/hook").len();
        receiver.behave("/hook", Behaviour::Answer(StatusCode::OK));
        let mut product = stage().start().await;
        let sent = receiver.wait("/hook", before + 1).await;
        let (parent, state) = context(sent.last().unwrap());
        assert_eq!(state, STATE);
        assert_eq!(product.stop().await, Some(0));
        match id {
            None => assert_eq!(parent, PARENT),
            Some(prompt) => {
                let spans = collector.spans();
                let attempt = spans.iter().rfind(|span| span.name == "POST").unwrap();
                assert_eq!(attempt.parent, prompt);
                assert_eq!(attempt.trace, TRACE);
                assert_eq!(parent, format!("00-{TRACE}-{}-01", attempt.id));
                attempt.has("http.response.status_code", "200");
                assert!(attempt.attributes.contains_key("http.request.resend_count"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn system_events_belong_to_their_prompt() {
    let (receiver, collector) = (Receiver::start().await, Collector::start().await);
    let product = collector
        .stage(stage())
        .env("SYSTEM_WEBHOOK_URL", receiver.url("/system"))
        .env("SYSTEM_WEBHOOK_EVENTS", "executed")
        .start()
        .await;
    product.run("told", &picture(1)).await;
    let sent = receiver.wait("/system", 1).await;
    let spans = collector
        .wait_for("the event and its prompt", |spans| {
            let has = |name: &str| spans.iter().any(|span| span.name == name);
            has("POST") && has("prompt")
        })
        .await;
    let (attempt, prompt) = (one(&spans, "POST"), one(&spans, "prompt"));
    assert_eq!(attempt.parent, prompt.id);
    attempt.has("url.full", receiver.url("/system").as_str());
    let (parent, _) = context(&sent[0]);
    assert_eq!(parent, format!("00-{}-{}-01", prompt.trace, attempt.id));
    let line = product.log.line("prompt succeeded").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["trace_id"], prompt.trace.as_str());
    assert_eq!(line["span_id"], prompt.id.as_str());
}
