//! An OpenTelemetry collector as far as an exporter sees it: takes OTLP over HTTP, remembers it,
//! and can misbehave as any [`Receiver`].

use std::collections::BTreeMap;
use std::io::Read as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use prost::Message as _;

use super::product::{Stage, until};
use super::receiver::{Received, Receiver};

pub const TRACES: &str = "/v1/traces";
pub const METRICS: &str = "/v1/metrics";

pub struct Collector {
    pub receiver: Receiver,
}

/// A span, easy to look at.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    /// `SERVER`, `CLIENT`, ...
    pub kind: &'static str,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<(String, BTreeMap<String, String>)>,
    pub links: Vec<String>,
    pub failed: bool,
    pub state: String,
}

impl Span {
    pub fn has(&self, name: &str, value: &str) {
        assert_eq!(
            self.attributes.get(name).map(String::as_str),
            Some(value),
            "{name} of {self:?}"
        );
    }

    pub fn lacks(&self, name: &str) {
        assert!(!self.attributes.contains_key(name), "{name} of {self:?}");
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self {
            receiver: Receiver::start().await,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.receiver.address)
    }

    /// A product that sends to it, soon.
    pub fn stage(&self, stage: Stage) -> Stage {
        stage
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint())
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.receiver
            .at(TRACES)
            .iter()
            .flat_map(|request| spans(&traces(request)))
            .collect()
    }

    /// Waits for a span of a name and returns all spans.
    pub async fn wait(&self, name: &str) -> Vec<Span> {
        self.wait_for(name, |spans| spans.iter().any(|span| span.name == name))
            .await
    }

    /// Waits until the spans are as they should be.
    pub async fn wait_for(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let found = until(what, async || {
            let spans = self.spans();
            enough(&spans).then_some(spans)
        });
        match tokio::time::timeout(std::time::Duration::from_secs(29), found).await {
            Ok(spans) => spans,
            Err(_) => panic!("not in time: {what}; there are {:#?}", self.spans()),
        }
    }

    /// Every byte that came, uncompressed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for path in [TRACES, METRICS] {
            for request in self.receiver.at(path) {
                all.extend(body(&request));
            }
        }
        all
    }

    /// The newest push of metrics, by name.
    pub async fn metrics(&self) -> BTreeMap<String, Metric> {
        let requests = self.receiver.wait(METRICS, 1).await;
        let body = body(requests.last().unwrap());
        let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
        let metrics = request.resource_metrics.into_iter().flat_map(|resource| {
            let scopes = resource.scope_metrics.into_iter();
            scopes.flat_map(|scope| scope.metrics)
        });
        metrics
            .map(|metric| (metric.name.clone(), metric))
            .collect()
    }

    /// The resource of the newest spans.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let requests = self.receiver.at(TRACES);
        let request = traces(requests.last().unwrap());
        attributes(
            &request.resource_spans[0]
                .resource
                .as_ref()
                .unwrap()
                .attributes,
        )
    }
}

/// Its body, uncompressed.
pub fn body(request: &Received) -> Vec<u8> {
    assert_eq!(request.header("content-type"), "application/x-protobuf");
    if request.header("content-encoding") == "gzip" {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*request.body)
            .read_to_end(&mut plain)
            .unwrap();
        return plain;
    }
    request.body.to_vec()
}

fn traces(request: &Received) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*body(request)).unwrap()
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes
        .flat_map(|scope| scope.spans.iter().map(readable))
        .collect()
}

fn readable(span: &WireSpan) -> Span {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    Span {
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: ["", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
            [usize::try_from(span.kind).unwrap()],
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| (event.name.clone(), attributes(&event.attributes)))
            .collect(),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        failed: span.status.as_ref().is_some_and(|status| status.code == 2),
        state: span.trace_state.clone(),
    }
}

pub fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        match value.unwrap() {
            any_value::Value::StringValue(text) => text.clone(),
            any_value::Value::IntValue(number) => number.to_string(),
            any_value::Value::BoolValue(flag) => flag.to_string(),
            other => panic!("{other:?}"),
        }
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

/// The one span of a name.
pub fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:#?} of {:#?}", names(spans));
    found[0]
}

pub fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}
