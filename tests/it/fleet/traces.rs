//! One trace from the client through the gateway, the broker and the instance to the webhook.

use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::support::collector::{Collector, Span, one};
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STATE: &str = "rojo=00f067aa0ba902b7";

fn prompt_of<'a>(spans: &'a [Span], source: &str) -> &'a Span {
    let of = |span: &&Span| {
        span.name == "prompt"
            && span
                .attributes
                .get("comfyui.source")
                .is_some_and(|known| known == source)
    };
    let found: Vec<&Span> = spans.iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{source}: {spans:#?}");
    found[0]
}

async fn post(product: &Product, path: &str, body: &Value) -> Value {
    let answer = product
        .http
        .post(format!("{}{path}", product.url))
        .header("traceparent", PARENT)
        .header("tracestate", STATE)
        .json(body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_from_the_client_to_the_webhook() {
    let broker = RabbitMq::shared().await;
    let (receiver, collector) = (Receiver::start().await, Collector::start().await);
    let endpoint = collector.endpoint();
    let exporting = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let fleet = Fleet::with(&broker.uri(), &exporting).await;
    let instance = fleet.instance("traced").envs(&exporting).start().await;
    fleet.until_seen("traced", "IDLE").await;
    let body = json!({"id": "through", "prompt": picture(1), "webhook_v2": receiver.url("/hook")});
    post(&fleet.gateway, "/prompt", &body).await;
    let hook = receiver.wait("/hook", 1).await.remove(0);
    let process = format!("process in.{}", fleet.name);
    let spans = collector
        .wait_for("the spans of both", |spans| {
            let has = |name: &str| spans.iter().any(|span| span.name == name);
            let prompts = spans.iter().filter(|span| span.name == "prompt").count();
            has(&process) && has("POST /prompt") && prompts == 2
        })
        .await;

    let request = one(&spans, "POST /prompt");
    assert_eq!(request.trace, TRACE);
    let here = prompt_of(&spans, "http");
    assert_eq!(here.parent, request.id);
    let publish = one(&spans, &format!("publish in.{}", fleet.name));
    assert_eq!((&*publish.parent, publish.kind), (&*here.id, "PRODUCER"));
    publish.has("messaging.destination.name", &format!("in.{}", fleet.name));
    publish.has("messaging.operation.type", "send");
    publish.has("messaging.message.id", "through");
    let process = one(&spans, &process);
    assert_eq!((&*process.parent, process.kind), (&*publish.id, "CONSUMER"));
    let there = prompt_of(&spans, "amqp");
    assert_eq!(there.parent, process.id);
    for prompt in [here, there] {
        for stage in ["preprocess", "execute", "postprocess"] {
            let below = |span: &&Span| span.name == stage && span.parent == prompt.id;
            assert_eq!(spans.iter().filter(below).count(), 1, "{stage}: {spans:#?}");
        }
    }
    // What the instance asks of its gateway meanwhile, and what it answers.
    let claim = one(&spans, "POST /fleet/{token}/claim");
    assert_eq!((&*claim.trace, &*claim.parent), (TRACE, &*process.id));
    claim.has("url.path", "/fleet/{token}/claim");
    let put = one(&spans, "PUT /fleet/{token}/out/{name}");
    assert_eq!(put.trace, TRACE);
    let told = spans
        .iter()
        .filter(|span| span.name.starts_with("publish q.gateway."));
    let told: Vec<&Span> = told.collect();
    assert!(!told.is_empty() && told.iter().all(|span| span.trace == TRACE));
    let attempt = one(&spans, "POST");
    assert_eq!(attempt.parent, here.id);
    assert_eq!(
        hook.header("traceparent"),
        format!("00-{TRACE}-{}-01", attempt.id)
    );
    assert_eq!(hook.header("tracestate"), STATE);
    for span in [request, here, publish, process, there, attempt] {
        assert_eq!((&*span.trace, &*span.state), (TRACE, STATE), "{span:?}");
        assert!(!span.failed, "{span:?}");
    }
    drop(instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_it_is_passed_on_over_a_restart_of_the_gateway() {
    let broker = RabbitMq::shared().await;
    let receiver = Receiver::start().await;
    let state = tempfile::TempDir::new().unwrap();
    let dir = state.path().display().to_string();
    let defaults = json!({"webhook_v2": receiver.url("/hook")}).to_string();
    let variables = [("STATE_DIR", dir.as_str()), ("V2_DEFAULTS", &defaults)];
    let mut fleet = Fleet::with(&broker.uri(), &variables).await;
    let system = receiver.url("/system").to_string();
    let instance = fleet
        .instance("passing")
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("SYSTEM_WEBHOOK_URL", &system)
        .env("SYSTEM_WEBHOOK_EVENTS", "execution_success")
        .start()
        .await;
    fleet.until_seen("passing", "IDLE").await;
    let job = post(
        &fleet.gateway,
        "/api/v2/jobs",
        &json!({"workflow": slow(1, 3.0)}),
    )
    .await;
    let id = job["id"].as_str().unwrap().to_owned();
    until("it runs", async || {
        let (_, job) = fleet.gateway.get(&format!("/api/v2/jobs/{id}")).await;
        (job["status"] == "running").then_some(())
    })
    .await;
    fleet.gateway.signal(Signal::SIGKILL);
    fleet.gateway.ended().await;
    let port = fleet.gateway.url.rsplit(':').next().unwrap().to_owned();
    fleet.gateway = gateway(&broker.uri(), &fleet.name)
        .envs(&variables)
        .env("PORT", port)
        .start()
        .await;
    let job = ended(&fleet.gateway, &id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    // The instance has it from the message, the second gateway from its record.
    for path in ["/system", "/hook"] {
        let sent = receiver.wait(path, 1).await.remove(0);
        assert_eq!(sent.header("traceparent"), PARENT, "{path}");
        assert_eq!(sent.header("tracestate"), STATE, "{path}");
    }
    drop(instance);
}
