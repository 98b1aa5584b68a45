//! A Jaeger collector that says which traces are recorded.

use std::sync::{Arc, Mutex};

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{Version, header};

use super::stage;
use crate::delivered::picture;
use crate::support::collector::Collector;
use crate::support::product::{Product, until};

/// What is answered next, without its frame, and what was asked.
#[derive(Default)]
struct Jaeger {
    answer: Vec<u8>,
    asked: Vec<Bytes>,
}

async fn jaeger(shared: Arc<Mutex<Jaeger>>) -> String {
    let answer = move |request: Request| {
        let shared = shared.clone();
        async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(
                request.uri().path(),
                "/jaeger.api_v2.SamplingManager/GetSamplingStrategy"
            );
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let asked = to_bytes(request.into_body(), 1000).await.unwrap();
            let mut jaeger = shared.lock().unwrap();
            jaeger.asked.push(asked);
            let mut body = vec![0, 0, 0, 0, u8::try_from(jaeger.answer.len()).unwrap()];
            body.extend(&jaeger.answer);
            ([(header::CONTENT_TYPE, "application/grpc")], body)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// `probabilisticSampling` with this share.
fn share(of_all: f64) -> Vec<u8> {
    let mut message = vec![0x12, 9, 9];
    message.extend(of_all.to_le_bytes());
    message
}

/// `rateLimitingSampling` with so many a second.
fn rate(per_second: u8) -> Vec<u8> {
    vec![0x08, 1, 0x1a, 2, 0x08, per_second]
}

/// Waits until the newest answer counts.
async fn asked_again(shared: &Mutex<Jaeger>, answer: Vec<u8>) {
    let before = {
        let mut jaeger = shared.lock().unwrap();
        jaeger.answer = answer;
        jaeger.asked.len()
    };
    // The first of them may have been under way, the second was read whole before the third was
    // asked.
    until("it asks again", async || {
        (shared.lock().unwrap().asked.len() >= before + 3).then_some(())
    })
    .await;
}

async fn prompts(product: &Product, name: &str, count: usize) {
    for n in 0..count {
        product.run(&format!("{name}{n}"), &picture(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_holds_from_then_on() {
    let collector = Collector::start().await;
    let shared = Arc::<Mutex<Jaeger>>::default();
    shared.lock().unwrap().answer = share(0.0);
    let url = jaeger(shared.clone()).await;
    let mut product = collector
        .stage(stage())
        .env("OTEL_SERVICE_NAME", "foxes")
        .env("OTEL_TRACES_SAMPLER", "jaeger_remote")
        .env(
            "OTEL_TRACES_SAMPLER_ARG",
            format!("endpoint={url},pollingIntervalMs=20,initialSamplingRate=1"),
        )
        .start()
        .await;
    asked_again(&shared, share(0.0)).await;
    prompts(&product, "none", 3).await;
    asked_again(&shared, share(1.0)).await;
    prompts(&product, "all", 3).await;
    asked_again(&shared, rate(1)).await;
    prompts(&product, "some", 30).await;
    assert_eq!(product.stop().await, Some(0));
    assert_eq!(
        &*shared.lock().unwrap().asked[0],
        b"\0\0\0\0\x07\x0a\x05foxes"
    );
    let spans = collector.spans();
    let count = |name: &str| {
        let ids = spans
            .iter()
            .filter_map(|span| span.attributes.get("comfyui.prompt.id"));
        ids.filter(|id| id.starts_with(name)).count()
    };
    assert_eq!((count("none"), count("all")), (0, 3));
    // At most one when it was said, and one for each second that went by.
    assert!((1..20).contains(&count("some")), "{}", count("some"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_answers_the_initial_share_holds() {
    let collector = Collector::start().await;
    let nobody = crate::delivered::nowhere();
    for (initial, expected) in [("0", 0), ("1", 2)] {
        let mut product = collector
            .stage(stage())
            .env("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote")
            .env(
                "OTEL_TRACES_SAMPLER_ARG",
                format!("endpoint={nobody},pollingIntervalMs=20,initialSamplingRate={initial}"),
            )
            .start()
            .await;
        product.log.line("cannot be asked").await;
        prompts(&product, "x", 2).await;
        assert_eq!(product.stop().await, Some(0));
        assert_eq!(product.log.count("cannot be asked"), 1, "it is said once");
        let spans = collector.spans();
        let prompts = spans.iter().filter(|span| span.name == "prompt");
        assert_eq!(prompts.count(), expected, "{initial}");
    }
}
