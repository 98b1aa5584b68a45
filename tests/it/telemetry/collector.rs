//! Collectors that are down, slow, or answer nonsense: nothing waits for them, nothing grows, and
//! what is lost is counted.

use std::time::{Duration, Instant};

use super::{exposition, stage};
use crate::delivered::{nowhere, picture};
use crate::support::collector::{Collector, TRACES, one};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, until};
use crate::support::receiver::Behaviour;
use axum::http::StatusCode;

const PROMPTS: usize = 20;

async fn dropped(product: &Product, signal: &str) -> f64 {
    let text = exposition(product).await;
    let line = format!("comfyui_api_otel_dropped_total{{signal=\"{signal}\"}} ");
    let line = text.lines().find_map(|text| text.strip_prefix(&line));
    line.unwrap().parse().unwrap()
}

async fn prompts(product: &Product) -> Duration {
    let began = Instant::now();
    for n in 0..PROMPTS {
        product.run(&format!("p{n}"), &picture(1)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_bad_one() {
    let silent = stage().start().await;
    let usual = prompts(&silent).await;
    let collector = Collector::start().await;
    let nonsense = Origin::start(|_, _| Reply::ok(b"<html>\xff\x00 nonsense".to_vec())).await;
    let cases = [
        ("down", nowhere(), None),
        ("hangs", collector.endpoint(), Some(Behaviour::Hang)),
        (
            "reads nothing",
            collector.endpoint(),
            Some(Behaviour::HangUnread),
        ),
        (
            "fails",
            collector.endpoint(),
            Some(Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR)),
        ),
        ("nonsense", nonsense.url(""), None),
    ];
    for (what, endpoint, behaviour) in cases {
        if let Some(behaviour) = behaviour {
            collector.receiver.behave(TRACES, behaviour);
        }
        let mut product = stage()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-token=planted")
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "50")
            .start()
            .await;
        let took = prompts(&product).await;
        assert!(
            took < usual * 2 + Duration::from_secs(2),
            "{what}: {took:?} instead of {usual:?}"
        );
        if what != "nonsense" {
            let lost = until(what, async || {
                let lost = dropped(&product, "traces").await;
                (lost > 0.0).then_some(lost)
            })
            .await;
            assert!(lost >= 1.0);
            let warning = product.log.line("telemetry is dropped").await;
            assert!(!warning.contains("planted"), "{warning}");
        }
        let began = Instant::now();
        assert_eq!(product.stop().await, Some(0), "{what}");
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "{what}: {:?}",
            began.elapsed()
        );
        assert!(product.log.count("telemetry is dropped") <= 1, "{what}");
        assert!(!product.log.text().contains("planted"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_nobody_takes_are_counted_too() {
    let product = stage()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", nowhere())
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .start()
        .await;
    let lost = until("metrics are dropped", async || {
        let lost = dropped(&product, "metrics").await;
        (lost > 0.0).then_some(lost)
    })
    .await;
    assert!(lost >= 1.0);
    assert!(dropped(&product, "traces").await.abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let collector = Collector::start().await;
    collector.receiver.behave(
        TRACES,
        Behaviour::Sequence(vec![
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
        ]),
    );
    let mut product = collector.stage(stage()).start().await;
    product.run("again", &picture(1)).await;
    let all = collector
        .receiver
        .wait_until(TRACES, Duration::from_secs(20), |all| {
            all.iter().any(|one| one.status == Some(StatusCode::OK))
        })
        .await;
    assert_eq!(all[0].body, all[3].body, "the same request again");
    assert_eq!(product.stop().await, Some(0));
    assert_eq!(dropped_text(&product), 0);
}

/// Warnings of losses.
fn dropped_text(product: &Product) -> usize {
    product.log.count("telemetry is dropped")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_pass_is_not_tried_again() {
    let collector = Collector::start().await;
    collector
        .receiver
        .behave(TRACES, Behaviour::Answer(StatusCode::BAD_REQUEST));
    let mut product = collector
        .stage(stage())
        .env("OTEL_BSP_SCHEDULE_DELAY", "60000")
        .start()
        .await;
    product.run("once", &picture(1)).await;
    assert_eq!(product.stop().await, Some(0));
    assert_eq!(collector.receiver.at(TRACES).len(), 1);
    assert_eq!(dropped_text(&product), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_sends_what_is_queued() {
    let collector = Collector::start().await;
    let mut product = collector
        .stage(stage())
        .env("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b,x-more=c")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=art")
        .env("SYSTEM_META_region", "eu")
        .env("INSTANCE_ID", "gpu-7")
        .start()
        .await;
    product.run("last", &picture(1)).await;
    assert!(collector.spans().is_empty());
    assert_eq!(product.stop().await, Some(0));
    let spans = collector.spans();
    one(&spans, "prompt").has("comfyui.prompt.id", "last");
    let request = &collector.receiver.at(TRACES)[0];
    assert_eq!(request.header("content-encoding"), "gzip");
    assert_eq!(request.header("x-token"), "a b");
    assert_eq!(request.header("x-more"), "c");
    let resource = collector.resource();
    for (name, value) in [
        ("team", "art"),
        ("comfyui.meta.region", "eu"),
        ("service.instance.id", "gpu-7"),
    ] {
        assert_eq!(resource[name], value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_address_is_taken_as_it_is() {
    let collector = Collector::start().await;
    let mut product = stage()
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("{}/a/b", collector.endpoint()),
        )
        .start()
        .await;
    product.run("x", &picture(1)).await;
    assert_eq!(product.stop().await, Some(0));
    assert!(!collector.receiver.at("/a/b").is_empty());
}
