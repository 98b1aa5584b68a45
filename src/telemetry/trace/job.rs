//! The spans of a job: `prompt`, its stages, its nodes. The job carries a [`JobTrace`]; without an
//! exporter that is only the context that came in.
//!
//! The span of the prompt ends when its last holder lets go: the job at the end of its delivery,
//! and each of its webhooks when it is delivered, given up or in the spool.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use super::{Context, Event, Kind, Span, clock, names};
use crate::config::public_text;
use crate::error::{Code, Failure};
use crate::limits::text::shorten;

/// Nodes of a prompt that get a span; the longest.
const MOST_NODES: usize = 200;
/// Characters of an exception's message.
const LONGEST_MESSAGE: usize = 500;
/// A text of a graph that is shorter says nothing about it: `euler`, `1024`.
const TELLING: usize = 6;

/// What is known of a prompt at its beginning.
#[derive(Debug, Clone, Copy)]
pub struct PromptFacts<'a> {
    /// The caller's id.
    pub id: &'a str,
    /// The transport.
    pub source: &'static str,
    /// The workflow endpoint, if it came through one.
    pub workflow: Option<&'a str>,
}

/// When a node ran, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRun {
    /// How long. First, so that the longest are found.
    pub took: u64,
    /// Its beginning.
    pub start: u64,
    /// Of the client's graph.
    pub id: String,
    /// Its class.
    pub class: String,
    /// Its result came from ComfyUI's cache.
    pub cached: bool,
}

/// What goes with the webhooks of a job: its context, and its span, which is open for as long as
/// this lives.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// What goes out.
    pub context: Option<Context>,
    _prompt: Option<Arc<Mutex<Span>>>,
}

impl From<Option<Context>> for Carried {
    fn from(context: Option<Context>) -> Self {
        Self {
            context,
            _prompt: None,
        }
    }
}

/// What a job carries.
#[derive(Debug, Default)]
pub struct JobTrace {
    context: Option<Context>,
    prompt: Mutex<Option<Arc<Mutex<Span>>>>,
    recorded: bool,
    run: Mutex<Run>,
}

/// What is known of its run in ComfyUI.
#[derive(Debug, Default)]
struct Run {
    queued: Option<u64>,
    started: Option<u64>,
    nodes: BinaryHeap<Reverse<NodeRun>>,
}

impl JobTrace {
    /// Begins the span of a prompt.
    pub fn begin(parent: Option<&Context>, facts: PromptFacts<'_>) -> Self {
        let mut span = Span::begin("prompt", Kind::Internal, parent);
        let context = span.context().cloned();
        if !span.is_recorded() {
            return Self {
                context,
                ..Self::default()
            };
        }
        span.set(names::PROMPT_ID, facts.id.to_owned());
        span.set(names::SOURCE, facts.source);
        span.set_with(names::WORKFLOW, || facts.workflow.map(str::to_owned));
        span.set(names::GEN_AI_OPERATION, "generate_content");
        span.set(names::GEN_AI_PROVIDER, "comfyui");
        Self {
            context,
            prompt: Mutex::new(Some(Arc::new(Mutex::new(span)))),
            recorded: true,
            run: Mutex::default(),
        }
    }

    /// What goes out with its messages, and into its log lines.
    pub const fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Whether anybody will see its spans.
    pub const fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// For a webhook.
    pub fn carried(&self) -> Carried {
        Carried {
            context: self.context.clone(),
            _prompt: self.prompt.lock().clone(),
        }
    }

    /// Begins a stage.
    pub fn stage(&self, name: &'static str) -> Span {
        Span::below(name, Kind::Internal, self.context.as_ref())
    }

    /// The model that it asks for first.
    pub fn model(&self, model: impl FnOnce() -> Option<String>) {
        self.note(|span| span.set_with(names::GEN_AI_MODEL, model));
    }

    /// ComfyUI has queued it, or it waits for its turn.
    pub fn queued(&self) {
        if self.recorded {
            self.run.lock().queued.get_or_insert_with(clock::now);
        }
    }

    /// ComfyUI has begun with it.
    pub fn started(&self) {
        if self.recorded {
            self.run.lock().started.get_or_insert_with(clock::now);
        }
    }

    /// ComfyUI has run it, or a part of it. `began` is in milliseconds since 1970.
    pub fn ran(&self, began: Option<u64>, nodes: impl Iterator<Item = NodeRun>) {
        if !self.recorded {
            return;
        }
        let mut run = self.run.lock();
        if let (None, Some(queued), Some(began)) = (run.started, run.queued, began) {
            run.started = Some(clock::from_ms(began).clamp(queued, clock::now().max(queued)));
        }
        for node in nodes {
            run.nodes.push(Reverse(node));
            if run.nodes.len() > MOST_NODES {
                run.nodes.pop();
            }
        }
    }

    /// ComfyUI is done with it: the spans of its stay there.
    pub fn executed(&self, graph: &Map<String, Json>, failure: Option<&Failure>) {
        if !self.recorded {
            return;
        }
        let now = clock::now();
        let run = std::mem::take(&mut *self.run.lock());
        if let Some(queued) = run.queued {
            let mut span = self.stage("queue");
            span.began_at(queued);
            if run.started.is_none()
                && let Some(failure) = failure
            {
                span.fail(failure.code.as_str());
            }
            span.end_at(run.started.unwrap_or(now));
        }
        let Some(started) = run.started else { return };
        let mut span = self.stage("execute");
        span.began_at(started);
        if let Some(failure) = failure {
            span.fail(failure.code.as_str());
            if let Some(event) = exception(graph, failure, now) {
                span.event(|| event);
            }
        }
        let mut nodes: Vec<NodeRun> = run.nodes.into_iter().map(|Reverse(node)| node).collect();
        nodes.sort_by_key(|node| node.start);
        for node in nodes {
            let name = format!("node {}", shorten(&node.class, 200));
            let mut child = Span::below(name, Kind::Internal, span.context());
            child.set(names::NODE_ID, node.id);
            child.set(names::NODE_CLASS, node.class);
            child.set(names::NODE_CACHED, node.cached);
            let start = clock::from_ms(node.start).clamp(started, now.max(started));
            let end = start.saturating_add(clock::from_ms(node.took));
            child.began_at(start);
            child.end_at(end.min(now.max(started)));
        }
        span.end_at(now);
    }

    /// It has ended. The span stays open as long as its webhooks hold it.
    pub fn delivered(&self, outputs: usize, output_type: Option<&'static str>) {
        self.note(|span| {
            span.set(names::OUTPUTS, outputs);
            span.set_with(names::GEN_AI_OUTPUT, || output_type);
        });
    }

    /// It has failed.
    pub fn failed(&self, failure: &Failure) {
        self.note(|span| span.fail(failure.code.as_str()));
    }

    /// Lets go of the span.
    pub fn release(&self) {
        if self.recorded {
            drop(self.prompt.lock().take());
        }
    }

    fn note(&self, note: impl FnOnce(&mut Span)) {
        if !self.recorded {
            return;
        }
        let prompt = self.prompt.lock().clone();
        if let Some(prompt) = prompt {
            note(&mut prompt.lock());
        }
    }
}

/// The standard's word for what was made, by the content types of the files; `None` where it has
/// none.
pub fn output_type<'a>(mut types: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let Some(first) = types.next() else {
        return Some("text");
    };
    match first.split('/').next() {
        Some("image") => Some("image"),
        Some("audio") => Some("speech"),
        Some("text") => Some("text"),
        _ if first == "application/json" => Some("json"),
        _ => None,
    }
}

/// What a node has raised. Its message may repeat what it was given, which is nobody's business.
fn exception(graph: &Map<String, Json>, failure: &Failure, at: u64) -> Option<Event> {
    let details = failure.details.as_ref()?;
    let text = |name: &str| details.get(name).and_then(Json::as_str);
    let kind = text("exception_type").filter(|_| failure.code != Code::ExecutionInterrupted)?;
    let message = without_inputs(text("exception_message").unwrap_or_default().trim(), graph);
    let message = shorten(&message, LONGEST_MESSAGE).into_owned();
    Some(Event {
        name: names::EXCEPTION,
        at,
        attributes: vec![
            (
                names::EXCEPTION_TYPE,
                shorten(kind, 200).into_owned().into(),
            ),
            (names::EXCEPTION_MESSAGE, message.into()),
        ],
    })
}

/// A message without the texts of a graph in it.
fn without_inputs(message: &str, graph: &Map<String, Json>) -> String {
    let mut message = public_text(message);
    let inputs = graph
        .values()
        .filter_map(|node| node.get("inputs")?.as_object())
        .flat_map(Map::values);
    let mut waiting: Vec<&Json> = inputs.collect();
    let mut texts = Vec::new();
    while let Some(value) = waiting.pop() {
        match value {
            Json::String(text) => texts.extend(text.lines().map(str::trim)),
            Json::Array(values) => waiting.extend(values),
            Json::Object(members) => waiting.extend(members.values()),
            _ => {}
        }
    }
    texts.retain(|text| text.chars().nth(TELLING - 1).is_some());
    // A text that is part of another one would take the other apart.
    texts.sort_by_key(|text| Reverse(text.len()));
    for text in texts {
        if message.contains(text) {
            message = message.replace(text, "\u{2026}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_an_exporter_only_the_context_is_carried() {
        let parent = Context::parse(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            None,
        );
        let origin = PromptFacts {
            id: "a",
            source: "http",
            workflow: None,
        };
        let trace = JobTrace::begin(parent.as_ref(), origin);
        assert_eq!(trace.context(), parent.as_ref());
        assert!(!trace.is_recorded() && trace.carried()._prompt.is_none());
        assert!(JobTrace::begin(None, origin).context().is_none());
    }

    #[test]
    fn a_message_loses_what_the_node_was_given() {
        let graph = json!({"1": {"class_type": "X", "inputs": {
            "text": "a secret castle\nwith a moat", "list": ["another text", 3],
            "sampler": "euler", "link": ["2", 0],
        }}});
        let message = "cannot parse 'a secret castle', 'with a moat' nor another text for euler at \
                       https://u:pw@h/x?token=t";
        assert_eq!(
            without_inputs(message, graph.as_object().unwrap()),
            "cannot parse '…', '…' nor … for euler at https://h/x"
        );
    }
}
