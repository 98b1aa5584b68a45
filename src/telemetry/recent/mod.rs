//! The last lines of the log, ComfyUI's and the server's own, for people who look at them through
//! the API. One for the whole process, as the logger is; it takes ComfyUI's lines whatever
//! `LOG_LEVEL` lets through.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write;
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::logging::epoch_ms;
use crate::config::{Secret, plain_text};
use crate::limits::{LOG_BYTES_KEPT, LOG_LINES_KEPT, MAX_LOG_LINE, text};

/// A secret shorter than this is only one where it stands by itself: as a part of words it would be
/// everywhere.
const LONG_SECRET: usize = 8;

/// What stands for a secret.
const STARS: &str = "***";

/// Who has printed a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Printer {
    /// ComfyUI, on its stdout or stderr.
    Comfyui,
    /// This server.
    Server,
}

/// How bad a line is; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of LOG_LEVEL")]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Severity {
    /// From a word of `LOG_LEVEL`.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" | "fatal" => Self::Error,
            _ => return None,
        })
    }
}

/// A line of the log.
#[derive(Debug, Clone, Serialize)]
pub struct LogLine {
    /// Epoch milliseconds.
    pub time: u64,
    /// Who has printed it.
    pub source: Printer,
    /// How bad it is; of ComfyUI only where the line says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Severity>,
    /// Without colours and secrets.
    pub text: String,
    /// The prompt that it is about; of ComfyUI's lines the one that was being executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<Arc<str>>,
    /// Which of several ComfyUI has printed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<usize>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of whom; `None`: of all.
    pub source: Option<Printer>,
    /// So bad or worse. A line that does not say counts as `info`.
    pub level: Option<Severity>,
    /// About which prompt.
    pub prompt_id: Option<String>,
}

impl Selection {
    fn fits(&self, line: &LogLine) -> bool {
        let level = line.level.unwrap_or(Severity::Info);
        self.source.is_none_or(|source| source == line.source)
            && self.level.is_none_or(|least| level >= least)
            && (self.prompt_id.is_none() || self.prompt_id.as_deref() == line.prompt_id.as_deref())
    }
}

/// The last lines.
#[derive(Debug)]
pub struct RecentLines {
    kept: Mutex<Kept>,
    /// Lines so far.
    count: watch::Sender<u64>,
    secrets: OnceLock<Vec<Secret>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

/// Those of this process.
pub fn recent() -> &'static RecentLines {
    static RECENT: LazyLock<RecentLines> = LazyLock::new(RecentLines::new);
    &RECENT
}

impl RecentLines {
    fn new() -> Self {
        Self {
            kept: Mutex::default(),
            count: watch::Sender::new(0),
            secrets: OnceLock::new(),
        }
    }

    /// What is taken out of all lines from now on. The first call counts.
    pub fn hide(&self, secrets: &[Secret]) {
        let _ = self.secrets.set(secrets.to_vec());
    }

    /// Adds a line of ComfyUI.
    pub fn comfyui(&self, line: &str, prompt_id: Option<Arc<str>>, instance: Option<usize>) {
        let about = (prompt_id, instance);
        self.add(Printer::Comfyui, severity_in(line), line, about);
    }

    fn add(
        &self,
        source: Printer,
        level: Option<Severity>,
        line: &str,
        (prompt_id, instance): (Option<Arc<str>>, Option<usize>),
    ) {
        let text = self.without_secrets(&plain_text(line));
        let line = Arc::new(LogLine {
            time: epoch_ms(),
            source,
            level,
            text,
            prompt_id,
            instance,
        });
        let mut kept = self.lock();
        kept.bytes += line.text.len();
        kept.lines.push_back(line);
        while kept.lines.len() > LOG_LINES_KEPT || kept.bytes > LOG_BYTES_KEPT {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= oldest.text.len();
        }
        // With the lock: the count is that of the lines.
        self.count.send_modify(|count| *count += 1);
    }

    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.secrets.get().map(Vec::as_slice).unwrap_or_default();
        let mut text = text.to_owned();
        for secret in secrets {
            let secret = secret.expose();
            if text.contains(secret) {
                text = hidden(&text, secret);
            }
        }
        text
    }

    /// The last lines that fit, oldest first, and the place behind them for [`RecentLines::since`].
    pub fn last(&self, most: usize, wanted: &Selection) -> (Vec<Arc<LogLine>>, u64) {
        let kept = self.lock();
        let fitting = kept.lines.iter().rev().filter(|line| wanted.fits(line));
        let mut lines: Vec<_> = fitting.take(most).cloned().collect();
        lines.reverse();
        (lines, *self.count.borrow())
    }

    /// The lines since a place, as far as they are still there, and the place behind them.
    pub fn since(&self, place: u64) -> (Vec<Arc<LogLine>>, u64) {
        let kept = self.lock();
        let count = *self.count.borrow();
        let news = usize::try_from(count.saturating_sub(place)).unwrap_or(usize::MAX);
        let known = kept.lines.len().saturating_sub(news);
        (kept.lines.iter().skip(known).cloned().collect(), count)
    }

    /// The number of lines so far, and its changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

/// Puts stars in the place of a secret: of a short one only where it is no part of a word.
fn hidden(text: &str, secret: &str) -> String {
    if secret.len() >= LONG_SECRET {
        return text.replace(secret, STARS);
    }
    let of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, found) = rest.split_at(at);
        let (_, after) = found.split_at(secret.len());
        let last = before.chars().next_back().or(shown.chars().next_back());
        shown.push_str(before);
        let within = of_word(last) || of_word(after.chars().next());
        shown.push_str(if within { secret } else { STARS });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// How bad a line of ComfyUI says that it is: in brackets or before a colon, where its logger and
/// those of custom nodes have it.
fn severity_in(line: &str) -> Option<Severity> {
    let line = line.trim_start();
    let word = match line.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if line.starts_with("Traceback (most recent call last)") => "error",
        None => line
            .split(':')
            .next()
            .filter(|word| line.len() > word.len())?,
    };
    match word.trim() {
        "DEBUG" => Some(Severity::Debug),
        "INFO" => Some(Severity::Info),
        "WARNING" | "WARN" => Some(Severity::Warn),
        "ERROR" | "CRITICAL" | "error" => Some(Severity::Error),
        _ => None,
    }
}

/// Takes the server's own lines. ComfyUI's, which are logged too, come by [`RecentLines::comfyui`].
pub struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.of_comfyui {
            return;
        }
        let level = match *event.metadata().level() {
            Level::TRACE => Severity::Trace,
            Level::DEBUG => Severity::Debug,
            Level::INFO => Severity::Info,
            Level::WARN => Severity::Warn,
            Level::ERROR => Severity::Error,
        };
        let mut line = fields.message;
        line.push_str(&fields.others);
        let line = text::shorten_escaped(&line, MAX_LOG_LINE);
        recent().add(
            Printer::Server,
            Some(level),
            &line,
            (fields.id, fields.instance),
        );
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    /// ` name=value` of each.
    others: String,
    id: Option<Arc<str>>,
    instance: Option<usize>,
    of_comfyui: bool,
}

impl Fields {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.message.len() + self.others.len() > MAX_LOG_LINE {
            return;
        }
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.others, " {name}={value}"),
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "id" {
            self.id = Some(format!("{value:?}").into());
        }
        self.put(field, format_args!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "instance" {
            self.instance = usize::try_from(value).ok();
        }
        self.put(field, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "source" if value == "comfyui" => self.of_comfyui = true,
            "id" => self.id = Some(value.into()),
            _ => {}
        }
        let value = &value[..value.floor_char_boundary(MAX_LOG_LINE)];
        self.put(field, format_args!("{value}"));
    }
}
