//! One span. It ends when it is dropped, whatever ends the work that it stands for.

use std::borrow::Cow;

use super::{Context, clock, names, tracer};
use crate::error::Failure;
use crate::limits::text::shorten;

/// Characters of a text in an attribute or a name.
pub const LONGEST_TEXT: usize = 1024;

/// What a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work of our own.
    Internal,
    /// A request that we answer.
    Server,
    /// A request that we make.
    Client,
    /// A message that we send.
    Producer,
    /// A message that we got.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Bounded where it is set.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(shortened(&text).unwrap_or(text)))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

fn shortened(text: &str) -> Option<String> {
    match shorten(text, LONGEST_TEXT) {
        Cow::Owned(short) => Some(short),
        Cow::Borrowed(_) => None,
    }
}

/// Something that happened at a moment of a span.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub name: &'static str,
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// More about it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// A recorded span.
#[derive(Debug)]
#[expect(missing_docs, reason = "the members of a span in OTLP")]
pub struct SpanData {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub context: Context,
    pub parent: Option<Context>,
    pub start: u64,
    pub end: u64,
    pub attributes: Vec<(&'static str, Value)>,
    pub events: Vec<Event>,
    pub links: Vec<Context>,
    pub failed: bool,
}

/// A span that goes on; or, where none is recorded, only the context that goes out instead.
#[derive(Debug, Default)]
pub struct Span {
    context: Option<Context>,
    data: Option<Box<SpanData>>,
}

impl Span {
    /// Begins one below a parent, or a trace of its own.
    pub fn begin(name: impl Into<Cow<'static, str>>, kind: Kind, parent: Option<&Context>) -> Self {
        let Some(tracer) = tracer() else {
            return Self {
                context: parent.cloned(),
                data: None,
            };
        };
        let context = tracer.child_of(parent);
        let data = context.is_sampled().then(|| {
            let start = clock::now();
            Box::new(SpanData {
                name: name.into(),
                kind,
                context: context.clone(),
                parent: parent.cloned(),
                start,
                end: 0,
                attributes: Vec::with_capacity(8),
                events: Vec::new(),
                links: Vec::new(),
                failed: false,
            })
        });
        Self {
            context: Some(context),
            data,
        }
    }

    /// None, with a context that is passed on.
    pub const fn passing(context: Option<Context>) -> Self {
        Self {
            context,
            data: None,
        }
    }

    /// Begins one where there is a parent; without one there is nothing.
    pub fn below(name: impl Into<Cow<'static, str>>, kind: Kind, parent: Option<&Context>) -> Self {
        match parent {
            Some(_) => Self::begin(name, kind, parent),
            None => Self::default(),
        }
    }

    /// What goes out of it: its own context, or the one that it would have been below.
    pub const fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Whether anybody will see it. What is expensive to find out is only worth it then.
    pub const fn is_recorded(&self) -> bool {
        self.data.is_some()
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            data.set(name, value.into());
        }
    }

    /// The same for what is made only where it is recorded.
    pub fn set_with<V: Into<Value>>(
        &mut self,
        name: &'static str,
        value: impl FnOnce() -> Option<V>,
    ) {
        if let Some(data) = &mut self.data
            && let Some(value) = value()
        {
            data.set(name, value.into());
        }
    }

    /// Another name than at its beginning.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(data) = &mut self.data {
            let name = name();
            data.name = shortened(&name).unwrap_or(name).into();
        }
    }

    /// It has failed, for a reason out of a small set.
    pub fn fail(&mut self, kind: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            data.set(names::ERROR_TYPE, kind.into());
            data.failed = true;
        }
    }

    /// Notes an event.
    pub fn event(&mut self, event: impl FnOnce() -> Event) {
        if let Some(data) = &mut self.data {
            data.events.push(event());
        }
    }

    /// Another context that it has to do with.
    pub fn link(&mut self, context: Context) {
        if let Some(data) = &mut self.data {
            data.links.push(context);
        }
    }

    /// It began at another moment, in nanoseconds since 1970.
    pub fn began_at(&mut self, at: u64) {
        if let Some(data) = &mut self.data {
            data.start = at;
        }
    }

    /// It has ended at another moment than this.
    pub fn end_at(mut self, at: u64) {
        if let Some(data) = &mut self.data {
            data.end = at;
        }
    }

    /// Runs what it stands for, in its context; a failure is its own.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn around<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let result = super::scope(self.context.clone(), work).await;
        if let Err(failure) = &result {
            self.fail(failure.code.as_str());
        }
        result
    }
}

impl SpanData {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name, value)),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take()
            && let Some(tracer) = tracer()
        {
            if data.end == 0 {
                data.end = clock::now();
            }
            data.end = data.end.max(data.start);
            tracer.queue.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded() {
        let Value::Text(text) = Value::from("ü".repeat(LONGEST_TEXT * 3)) else {
            panic!("no text");
        };
        assert!(text.chars().count() <= LONGEST_TEXT + 1, "{}", text.len());
        assert_eq!(Value::from("short".to_owned()), Value::from("short"));
    }

    #[test]
    fn without_a_tracer_a_span_is_only_its_context() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Context::parse(text, None);
        let span = Span::begin("x", Kind::Internal, parent.as_ref());
        assert!(!span.is_recorded());
        assert_eq!(span.context(), parent.as_ref());
        assert!(Span::begin("x", Kind::Internal, None).context().is_none());
    }
}
