//! A job that the next process takes up goes on in the trace that it was submitted with.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{CALLER, PARENT, STATE, TRACE, stage};
use crate::mcp::structured;
use crate::support::collector::{Collector, Span, one};
use crate::support::graphs::slow;
use crate::support::product::{Product, until};
use crate::support::receiver::{Received, Receiver};

/// How a job comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Door {
    V2,
    Kept,
    Agent,
}

impl Door {
    /// The span of the request.
    fn request(self) -> &'static str {
        match self {
            Self::V2 => "POST /api/v2/jobs",
            Self::Kept => "POST /prompt",
            Self::Agent => "tools/call run_graph",
        }
    }
}

/// Submits a long job with a context; its id.
async fn submit(product: &Product, door: Door, hook: &str) -> String {
    let graph = slow(2.0, 20);
    let (path, body) = match door {
        Door::V2 => ("/api/v2/jobs", json!({"workflow": graph})),
        Door::Kept => (
            "/prompt",
            json!({"id": "kept", "prompt": graph, "keep": true, "async": true, "webhook_v2": hook}),
        ),
        Door::Agent => (
            "/mcp",
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "run_graph", "arguments": {"graph": graph, "wait_s": 0}}}),
        ),
    };
    let mut request = product.http.post(format!("{}{path}", product.url));
    if door == Door::Agent {
        request = request
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18");
    }
    let answer = request
        .header("traceparent", PARENT)
        .header("tracestate", STATE)
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    let answer: Value = answer.json().await.unwrap();
    let id = match door {
        Door::Agent => &answer["result"]["structuredContent"]["id"],
        Door::V2 | Door::Kept => &answer["id"],
    };
    id.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn runs(product: &Product, id: &str) {
    until("it runs", async || {
        let (_, entry) = product.get(&format!("/prompt/{id}")).await;
        (entry["status"] == "running").then_some(())
    })
    .await;
}

fn context(request: &Received) -> (&str, &str) {
    (request.header("traceparent"), request.header("tracestate"))
}

/// The product is killed while the job runs, and started again; what both have exported, and the
/// webhook.
async fn over_a_restart(door: Door, collector: Option<&Collector>) -> (Vec<Span>, Received) {
    let (receiver, state) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let hook = receiver.url("/hook").to_string();
    let stage = || {
        let stage = stage()
            .env("STATE_DIR", state.path().display())
            .env("V2_DEFAULTS", json!({"webhook_v2": hook}).to_string());
        // An agent's job has no webhook of its own: its end is seen here.
        let stage = match door {
            Door::Agent => stage
                .env("SYSTEM_WEBHOOK_URL", receiver.url("/system"))
                .env("SYSTEM_WEBHOOK_EVENTS", "execution_success"),
            Door::V2 | Door::Kept => stage,
        };
        match collector {
            Some(collector) => collector.stage(stage),
            None => stage,
        }
    };
    let mut first = stage().start().await;
    let id = submit(&first, door, &hook).await;
    runs(&first, &id).await;
    if let Some(collector) = collector {
        collector.wait(door.request()).await;
    }
    first.signal(Signal::SIGKILL);
    first.ended().await;
    let mut second = stage().start().await;
    let path = if door == Door::Agent {
        "/system"
    } else {
        "/hook"
    };
    let sent = receiver.wait(path, 1).await.remove(0);
    if door == Door::Agent {
        let job = structured(&second, "get_job", json!({"id": id, "wait_s": 20})).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    let line = second.log.line("prompt succeeded").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["trace_id"], TRACE, "{line}");
    assert_eq!(second.stop().await, Some(0));
    let spans = collector.map(Collector::spans).unwrap_or_default();
    (spans, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_the_context_is_passed_on_unchanged() {
    for door in [Door::V2, Door::Kept, Door::Agent] {
        let (_, sent) = over_a_restart(door, None).await;
        assert_eq!(context(&sent), (PARENT, STATE), "{door:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_the_second_process_are_in_the_same_trace() {
    for door in [Door::V2, Door::Kept, Door::Agent] {
        let collector = Collector::start().await;
        let (spans, sent) = over_a_restart(door, Some(&collector)).await;
        let request = one(&spans, door.request());
        assert_eq!((&*request.trace, &*request.parent), (TRACE, CALLER));
        // That of the first process died with it.
        let prompt = one(&spans, "prompt");
        assert_eq!(prompt.trace, TRACE, "{door:?}");
        assert_eq!(prompt.parent, request.id, "{door:?}");
        assert_eq!(prompt.state, STATE, "{door:?}");
        for stage in ["execute", "postprocess"] {
            assert_eq!(one(&spans, stage).parent, prompt.id, "{door:?}");
        }
        let attempt = one(&spans, "POST");
        assert_eq!(attempt.parent, prompt.id);
        let parent = format!("00-{TRACE}-{}-01", attempt.id);
        assert_eq!(context(&sent), (parent.as_str(), STATE), "{door:?}");
    }
}
