//! One line per event: a JSON object with `time`, `level`, `msg` and fields, or text for people.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::recent::Recorder;
use crate::config::{LogConfig, LogFormat};
use crate::limits::{MAX_LOG_LINE, text};
use crate::telemetry::trace;

/// Lines that may wait to be written. More are lost: a pipe that nobody reads must not stop the
/// server, nor fill its memory.
const WAITING_LINES: usize = 4096;

/// The thread that writes. It is given up when the process ends.
static WRITER: Mutex<Option<Installed>> = Mutex::new(None);

struct Installed {
    _guard: WorkerGuard,
    /// For lines to people; none where they would stand in JSON.
    people: Option<NonBlocking>,
}

/// Installs the logger for the whole process. A second call changes nothing. Lines are written by a
/// thread of their own: whoever logs never waits for whoever reads. [`finish`] writes the last
/// ones.
pub fn install(config: &LogConfig) {
    let level = if config.level == "fatal" {
        "error"
    } else {
        &config.level
    };
    // Our own crate at the chosen level. Libraries only speak up when something is wrong, whatever
    // is chosen: below that they print whole requests, with signatures and tokens in them.
    let libraries = if level == "error" { "error" } else { "warn" };
    let filter = EnvFilter::new(format!("{libraries},lapin=off,comfyui_api={level}"));
    let pretty = match config.format {
        LogFormat::Json => false,
        LogFormat::Pretty => true,
        LogFormat::Auto => std::io::stdout().is_terminal(),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(BufWriter::new(std::io::stdout()));
    let people = pretty.then(|| writer.clone());
    let registry = tracing_subscriber::registry().with(filter).with(Recorder);
    let installed = if pretty {
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(WithTrace(DefaultFields::new()))
            .with_writer(move || BoundedLines(writer.clone()))
            .with_target(false)
            .with_ansi(std::io::stdout().is_terminal());
        registry.with(lines).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .event_format(JsonLine)
            .with_writer(writer);
        registry.with(lines).try_init()
    };
    if installed.is_ok() {
        *WRITER.lock() = Some(Installed {
            _guard: guard,
            people,
        });
    }
}

/// Writes the lines that wait, unless that takes more than about a second. What is logged
/// afterwards is lost: for the end of the process.
pub fn finish() {
    drop(WRITER.lock().take());
}

/// Prints a line for people, whatever the level; `false` where the log is JSON, and it is not
/// printed.
pub fn tell_people(line: &str) -> bool {
    let mut installed = WRITER.lock();
    let people = installed
        .as_mut()
        .and_then(|installed| installed.people.as_mut());
    match people {
        Some(writer) => writeln!(writer, "{line}").is_ok(),
        None => false,
    }
}

/// Epoch milliseconds now.
pub fn epoch_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}

/// The fields of a line for people, with the ids of its trace behind them.
struct WithTrace(DefaultFields);

impl<'writer> FormatFields<'writer> for WithTrace {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        self.0.format_fields(writer.by_ref(), fields)?;
        match trace::log_ids() {
            Some((trace_id, span_id)) => {
                write!(writer, " trace_id={trace_id} span_id={span_id}")
            }
            None => Ok(()),
        }
    }
}

struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        fields.0.insert("time".into(), epoch_ms().into());
        fields.0.insert(
            "level".into(),
            event
                .metadata()
                .level()
                .as_str()
                .to_ascii_lowercase()
                .into(),
        );
        fields.0.insert("msg".into(), Value::Null);
        event.record(&mut fields);
        if let Some((trace_id, span_id)) = trace::log_ids() {
            fields.0.insert("trace_id".into(), trace_id.into());
            fields.0.insert("span_id".into(), span_id.into());
        }
        writeln!(writer, "{}", bounded_line(fields.0))
    }
}

/// A line of at most [`MAX_LOG_LINE`] bytes, whatever clients, ComfyUI or origins have put into its
/// fields.
fn bounded_line(mut fields: Map<String, Value>) -> String {
    let line = Value::Object(fields.clone()).to_string();
    if line.len() < MAX_LOG_LINE {
        return line;
    }
    // The fields share what there is; those that need less leave nothing, which is simple and
    // enough.
    let share = (MAX_LOG_LINE - 1_024) / fields.len().max(1);
    for value in fields.values_mut() {
        if let Value::String(text) = value
            && let Cow::Owned(short) = text::shorten_escaped(text, share.saturating_sub(64))
        {
            *text = short;
        }
    }
    Value::Object(fields).to_string()
}

/// `Debug` output that ends where a line of the log ends anyway.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let left = MAX_LOG_LINE.saturating_sub(self.0.len());
        if piece.len() <= left {
            self.0.push_str(piece);
            return Ok(());
        }
        self.0.push_str(&piece[..piece.floor_char_boundary(left)]);
        Err(fmt::Error)
    }
}

/// Lines for people, which the library writes in one piece each.
struct BoundedLines<W>(W);

impl<W: Write> Write for BoundedLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() <= MAX_LOG_LINE {
            return self.0.write(line);
        }
        let mut end = MAX_LOG_LINE - 8;
        while end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        let mut short = line[..end].to_vec();
        short.extend_from_slice("…\n".as_bytes());
        self.0.write_all(&short)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut written = Bounded(String::new());
        // The error only says that there was more.
        let _ = fmt::Write::write_fmt(&mut written, format_args!("{value:?}"));
        self.put(field, written.0.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = &value[..value.floor_char_boundary(MAX_LOG_LINE)];
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A11
    #[test]
    fn lines_are_bounded() {
        let long = "ü\"\n".repeat(1_000_000);
        let mut fields = Map::new();
        fields.insert("time".into(), 1.into());
        fields.insert("msg".into(), "prompt failed".into());
        let short = bounded_line(fields.clone());
        assert_eq!(short, r#"{"time":1,"msg":"prompt failed"}"#);
        for name in ["error", "location", "url", "x"] {
            fields.insert(name.into(), long.clone().into());
        }
        let line = bounded_line(fields);
        assert!(line.len() <= MAX_LOG_LINE, "{}", line.len());
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["msg"], "prompt failed");
        assert!(read["x"].as_str().unwrap().ends_with('…'));
        let mut written = BoundedLines(Vec::new());
        written.write_all(format!("{long}\n").as_bytes()).unwrap();
        assert!(written.0.len() <= MAX_LOG_LINE && written.0.ends_with("…\n".as_bytes()));
        let mut debug = Bounded(String::new());
        assert!(fmt::Write::write_fmt(&mut debug, format_args!("{long:?}")).is_err());
        assert!(debug.0.len() <= MAX_LOG_LINE);
    }
}
