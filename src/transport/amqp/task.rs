//! A message as a task. Lenient (amqp.md, "Tasks"): old producers encode twice, or send the graph
//! as a string. A message that is no task keeps its identity, so that whoever waits for it hears of
//! it (faults.md, F12).

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use lapin::BasicProperties;
use serde_json::{Map, Value};

use super::memory::Fingerprint;
use super::quoted;
use crate::error::{Code, Failure};
use crate::json::{self, JsonError, Keep};
use crate::limits::{MAX_NAME, bodies::bodies};

/// Bodies above this many bytes are parsed off the runtime.
const LARGE: usize = 256 * 1024;
/// The id in the event of a message that has none.
const UNKNOWN: &str = "unknown";

/// A task as the runner takes it.
#[derive(Debug)]
pub(super) struct Task {
    /// As the producer gave it, if at all.
    pub(super) id: Option<Arc<str>>,
    /// A `POST /prompt` body without the id.
    pub(super) body: Map<String, Value>,
    /// The message's bytes, for publishing it again. (Of one that was encoded twice: decoded
    /// once.)
    pub(super) bytes: Bytes,
    /// Of those bytes, and of the publication that is answered.
    pub(super) fingerprint: Fingerprint,
}

/// A message that is no task.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is known of its identity.
    pub(super) id: Arc<str>,
    pub(super) failure: Failure,
    /// It cannot be read at all: for the queue of dead letters, if there is one.
    pub(super) unreadable: bool,
}

/// What else may identify a message.
#[derive(Debug, Clone)]
pub(super) struct MessageIds {
    id: Option<Arc<str>>,
    /// Of one that wants its answers in a queue: they go to this publication, and to no other of
    /// the same bytes.
    publication: Option<Arc<str>>,
}

impl MessageIds {
    /// `message_id`, then `correlation_id`.
    pub(super) fn of(properties: &BasicProperties) -> Self {
        let ids = [properties.message_id(), properties.correlation_id()];
        let answered = properties.reply_to().is_some();
        let publication = properties.correlation_id().as_ref();
        Self {
            id: ids
                .into_iter()
                .flatten()
                .map(lapin::types::ShortString::as_str)
                .find(|id| may_be_id(id))
                .map(Arc::from),
            publication: publication
                .filter(|_| answered)
                .map(|id| Arc::from(id.as_str())),
        }
    }
}

/// Parses a message.
///
/// # Errors
/// Why it is no task.
pub(super) async fn parse(
    bytes: Vec<u8>,
    ids: MessageIds,
    max_bytes: usize,
) -> Result<Task, Refusal> {
    if bytes.len() < LARGE {
        return parse_now(bytes, &ids, max_bytes);
    }
    let spare = ids.clone();
    // As large bodies of other transports, it waits for memory before anything is built of it.
    let _share = bodies().built(bytes.len(), 0).await;
    tokio::task::spawn_blocking(move || parse_now(bytes, &ids, max_bytes))
        .await
        .unwrap_or_else(|_| {
            Err(Refusal {
                id: spare.id.unwrap_or_else(|| UNKNOWN.into()),
                failure: Failure::new(Code::Internal, "The task could not be parsed."),
                unreadable: true,
            })
        })
}

fn parse_now(mut bytes: Vec<u8>, ids: &MessageIds, max_bytes: usize) -> Result<Task, Refusal> {
    let refusal = |bytes: &[u8], failure: Failure, unreadable: bool| Refusal {
        id: id_in(bytes)
            .map(Arc::from)
            .or_else(|| ids.id.clone())
            .unwrap_or_else(|| UNKNOWN.into()),
        failure,
        unreadable,
    };
    if bytes.len() > max_bytes {
        let shown = max_bytes as f64 / (1024.0 * 1024.0);
        let have = bytes.len().div_ceil(1 << 20);
        let message = format!(
            "The task has {have} MiB, more than {shown} MiB: send large inputs as URLs, or raise \
             MAX_BODY_SIZE_MB."
        );
        return Err(refusal(
            &bytes,
            Failure::new(Code::PayloadTooLarge, message),
            false,
        ));
    }
    let mut body = match read(&mut bytes) {
        Ok(body) => body,
        Err(problem) => {
            // What is JSON, but too much of it, can be read: it is refused like any other bad
            // request.
            let unreadable = !matches!(problem, JsonError::TooMany);
            let failure = problem.failure("body", "The task");
            return Err(refusal(&bytes, failure, unreadable));
        }
    };
    unfold_prompt(&mut body);
    let alias = body.shift_remove("task_id");
    let id = body
        .shift_remove("id")
        .as_ref()
        .and_then(id_text)
        .or_else(|| alias.as_ref().and_then(id_text));
    if let Some(id) = id.as_ref().filter(|id| !may_be_id(id)) {
        let message = format!(
            "The task's id has {} characters: it must be 1 to {MAX_NAME} characters without \
             control characters.",
            id.chars().count()
        );
        let mut refused = refusal(&[], Failure::invalid("id", message), false);
        // Whoever waits for it waits for this text, if an event can hold it.
        if id.chars().take(MAX_NAME + 1).count() <= MAX_NAME {
            refused.id = id.as_str().into();
        }
        return Err(refused);
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    if let Some(publication) = &ids.publication {
        hasher.write(publication.as_bytes());
    }
    Ok(Task {
        id: id.map(Arc::from).or_else(|| ids.id.clone()),
        body,
        fingerprint: hasher.finish(),
        bytes: bytes.into(),
    })
}

/// A graph that is given as a text takes the place of that text, which is let go first.
fn unfold_prompt(body: &mut Map<String, Value>) {
    let Some(prompt) = body.get_mut("prompt").filter(|prompt| prompt.is_string()) else {
        return;
    };
    let Value::String(text) = prompt.take() else {
        return;
    };
    let mut text = text.into_bytes();
    *prompt = match json::members(&mut text, |_| Keep::All) {
        Ok(graph) => graph.into(),
        Err(_) => String::from_utf8(text).unwrap_or_default().into(),
    };
}

/// Reads the message again, for its last word.
pub(super) fn body_of(bytes: &Bytes) -> Map<String, Value> {
    read(&mut bytes.to_vec()).unwrap_or_default()
}

/// The members of the object that the message holds, unquoted in place if it was encoded twice.
fn read(bytes: &mut Vec<u8>) -> Result<Map<String, Value>, JsonError> {
    if quoted::is_quoted(bytes) && !quoted::unquote(bytes) {
        return Err(JsonError::NoObject);
    }
    json::members(bytes, |_| Keep::All)
}

fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// drop-in.md, D01.
fn may_be_id(text: &str) -> bool {
    !text.is_empty()
        && text.chars().take(MAX_NAME + 1).count() <= MAX_NAME
        && !text.chars().any(char::is_control)
}

/// The `id`, else the `task_id`, that stands on the first level of a text that may be broken
/// anywhere.
fn id_in(bytes: &[u8]) -> Option<String> {
    let mut twice;
    let mut bytes = bytes;
    if quoted::is_quoted(bytes) {
        twice = bytes.to_vec();
        quoted::unquote(&mut twice);
        bytes = &twice;
    }
    let (mut depth, mut at, mut alias) = (0_usize, 0, None);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = quoted::end(bytes, at)?;
                let name = &bytes[at + 1..end];
                at = end;
                if depth == 1
                    && (name == b"id" || name == b"task_id")
                    && let Some(id) = value_after(&bytes[end + 1..]).filter(|id| may_be_id(id))
                {
                    if name == b"id" {
                        return Some(id);
                    }
                    alias.get_or_insert(id);
                }
            }
            _ => {}
        }
        at += 1;
    }
    alias
}

/// The text or number behind `: `, if it is whole.
fn value_after(bytes: &[u8]) -> Option<String> {
    let text = bytes
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    if text.first() == Some(&b'"') {
        let end = quoted::end(text, 0)?;
        return serde_json::from_slice(&text[..=end]).ok();
    }
    let digits = text
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        .count();
    let number: serde_json::Number = serde_json::from_slice(&text[..digits]).ok()?;
    // The end of the text may have cut it.
    (digits < text.len()).then(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn none() -> MessageIds {
        ids(None)
    }

    fn ids(id: Option<&str>) -> MessageIds {
        MessageIds {
            id: id.map(Arc::from),
            publication: None,
        }
    }

    fn parse_text(text: &str) -> Result<Task, Refusal> {
        parse_now(text.as_bytes().to_vec(), &none(), 1 << 20)
    }

    #[test]
    fn old_producers_are_understood() {
        let parse = |value: Value| parse_text(&value.to_string()).unwrap();
        let graph = json!({"1": {"class_type": "X", "inputs": {"t": "\u{1f600} \"q\" \\ \n"}}});
        let plain = parse(json!({"id": "a", "prompt": graph}));
        assert_eq!(
            (plain.id.as_deref(), &plain.body["prompt"]),
            (Some("a"), &graph)
        );
        let twice = parse(Value::String(
            json!({"task_id": "b", "prompt": graph.to_string()}).to_string(),
        ));
        assert_eq!(
            (twice.id.as_deref(), &twice.body["prompt"]),
            (Some("b"), &graph)
        );
        assert!(!twice.body.contains_key("task_id") && !twice.body.contains_key("id"));
        assert_eq!(
            parse(json!({"id": 7, "task_id": "c"})).id.as_deref(),
            Some("7")
        );
        assert_eq!(
            parse(json!({"id": null, "task_id": "c"})).id.as_deref(),
            Some("c")
        );
        assert_eq!(parse(json!({"id": ""})).id, None);
        assert_ne!(plain.fingerprint, twice.fingerprint);
        assert_eq!(
            plain.fingerprint,
            parse(json!({"id": "a", "prompt": graph})).fingerprint
        );
        assert_eq!(body_of(&twice.bytes)["task_id"], "b");
        let marked = parse_text("\u{feff}{\"id\": \"m\", \"x\": \"\\ud83d\"}").unwrap();
        assert_eq!(
            (marked.id.as_deref(), &marked.body["x"]),
            (Some("m"), &json!("\u{fffd}"))
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "", "nonsense", "[1]", "3", "null", "\"text\"", "\"[1]\"", "\u{fffd}", "\"{}",
            "\"{}\" x",
        ] {
            let refusal = parse_text(text).unwrap_err();
            assert!(refusal.unreadable && &*refusal.id == "unknown", "{text}");
        }
        let utf16: Vec<u8> = "{\"id\":1}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [vec![0xff, 0xfe], utf16, b"{\"id\": \"\xff\"}".to_vec()] {
            assert!(parse_now(bytes, &none(), 1 << 20).is_err());
        }
    }

    /// F12
    #[test]
    fn a_message_that_cannot_be_read_keeps_its_identity() {
        for (text, id) in [
            (r#"{"task_id": "t5", "prompt":"#, "t5"),
            (
                r#"{"prompt": {"1": {"id": "inner"}}, "id": "outer", x"#,
                "outer",
            ),
            (r#"{"task_id": "alias", "id": 17, "#, "17"),
            (r#"{"id": "cut o"#, "message"),
            (r#"{"id": 12"#, "message"),
            (r#"{"prompt": {"id": "inner"}"#, "message"),
            (r#"{"id": "a\u00e9\"b",]"#, "a\u{e9}\"b"),
            (r#""{\"task_id\": \"t6\", \"prompt\":"#, "t6"),
            (r#"{"id": "", "task_id": "t7",}"#, "t7"),
            ("{\"id\": \"\u{1}\",}", "message"),
            ("[{\"id\": \"list\"}]", "message"),
            ("nonsense", "message"),
        ] {
            let ids = ids(Some("message"));
            let refusal = parse_now(text.as_bytes().to_vec(), &ids, 1 << 20).unwrap_err();
            assert_eq!(&*refusal.id, id, "{text}");
        }
        let properties = BasicProperties::default().with_correlation_id("c".into());
        let ids = MessageIds::of(&properties);
        assert_eq!(ids.id.as_deref(), Some("c"));
        let properties = properties.with_message_id("m".into());
        assert_eq!(MessageIds::of(&properties).id.as_deref(), Some("m"));
        let properties = properties.with_message_id("\u{7}".into());
        let ids = MessageIds::of(&properties);
        let task = parse_now(b"{}".to_vec(), &ids, 10).unwrap();
        assert_eq!(
            task.id.as_deref(),
            Some("c"),
            "a control character cannot be in an id"
        );
        let task = parse_now(b"{\"id\": \"own\"}".to_vec(), &ids, 100).unwrap();
        assert_eq!(task.id.as_deref(), Some("own"));
    }

    /// A71
    #[test]
    fn bodies_above_the_limit_are_answered_with_their_id() {
        let text = format!(
            "{{\"prompt\": \"{}\", \"task_id\": \"big\"}}",
            "x".repeat(100)
        );
        let refusal = parse_now(text.clone().into_bytes(), &none(), 100).unwrap_err();
        assert_eq!((&*refusal.id, refusal.unreadable), ("big", false));
        assert_eq!(refusal.failure.code, Code::PayloadTooLarge);
        assert!(parse_now(text.into_bytes(), &none(), 200).is_ok());
        let long = json!({"id": "x".repeat(257)}).to_string();
        let refusal = parse_text(&long).unwrap_err();
        assert_eq!(refusal.failure.location.as_deref(), Some("id"));
        assert!(!refusal.unreadable && refusal.failure.message.len() < 200);
    }
}
