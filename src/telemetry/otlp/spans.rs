//! Spans as OTLP has them.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use crate::telemetry::trace::{Context, Kind, SpanData, Value, names};

/// Of the flags of a span: whether its parent is remote is known, and so it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Writes requests.
pub(super) struct Encoder {
    resource: Resource,
}

impl Encoder {
    pub fn new(resource: &[(String, String)]) -> Self {
        Self {
            resource: resource_of(resource),
        }
    }

    pub fn encode(&self, spans: Vec<SpanData>) -> Vec<u8> {
        let scope_spans = ScopeSpans {
            scope: Some(library()),
            spans: spans.into_iter().map(written).collect(),
            schema_url: names::SCHEMA.to_owned(),
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![scope_spans],
                schema_url: names::SCHEMA.to_owned(),
            }],
        };
        request.encode_to_vec()
    }
}

/// How many spans a collector says it has rejected. What cannot be read is no complaint.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    ExportTraceServiceResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success)
        .map_or(0, |partial| {
            u64::try_from(partial.rejected_spans).unwrap_or(0)
        })
}

pub(super) fn resource_of(attributes: &[(String, String)]) -> Resource {
    let own = [
        ("telemetry.sdk.name", "comfyui-api"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", crate::VERSION),
    ];
    let own = own.map(|(name, value)| attribute(name, any_value::Value::StringValue(value.into())));
    let given = attributes
        .iter()
        .map(|(name, value)| attribute(name, any_value::Value::StringValue(value.clone())));
    Resource {
        attributes: given.chain(own).collect(),
        ..Resource::default()
    }
}

pub(super) fn library() -> InstrumentationScope {
    InstrumentationScope {
        name: "comfyui-api".to_owned(),
        version: crate::VERSION.to_owned(),
        ..InstrumentationScope::default()
    }
}

pub(super) fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn attributes(pairs: Vec<(&'static str, Value)>) -> Vec<KeyValue> {
    let value = |value| match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Flag(flag) => any_value::Value::BoolValue(flag),
    };
    pairs
        .into_iter()
        .map(|(name, given)| attribute(name, value(given)))
        .collect()
}

fn written(span: SpanData) -> Span {
    let parent = span.parent;
    let remote = parent.as_ref().is_some_and(Context::is_remote);
    let flags = u32::from(span.context.flags()) | KNOWN | if remote { REMOTE } else { 0 };
    Span {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        trace_state: span.context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span_id.to_vec()),
        flags,
        name: span.name.into_owned(),
        kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        }
        .into(),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                time_unix_nano: event.at,
                name: event.name.to_owned(),
                attributes: attributes(event.attributes),
                dropped_attributes_count: 0,
            })
            .collect(),
        links: span.links.iter().map(link).collect(),
        status: span.failed.then(|| Status {
            message: String::new(),
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn link(context: &Context) -> Link {
    Link {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        trace_state: context.tracestate().unwrap_or_default().to_owned(),
        flags: u32::from(context.flags()) | KNOWN | if context.is_remote() { REMOTE } else { 0 },
        ..Link::default()
    }
}
