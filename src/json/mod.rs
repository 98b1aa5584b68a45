//! JSON from outside: bodies, tasks, files. Whoever reads such a text reads it here, so that the
//! same texts are accepted everywhere (faults.md, F12) and none costs more than its length allows
//! (attack.md, A10).
//!
//! Accepted beside JSON itself, because ComfyUI accepts it: a byte-order mark, halves of surrogate
//! pairs in strings, which become U+FFFD, and `NaN` and `Infinity`, which become null. What is not
//! asked for is passed over without being built; lists and objects are built as large as they are,
//! not as they may grow.

mod build;
mod count;
mod mend;

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

pub use build::Keep;
pub use count::Counter;
pub use mend::mend;

use crate::error::Failure;
use crate::limits::MAX_VALUES;

/// Why a text is not accepted.
#[derive(Debug)]
pub enum JsonError {
    /// Not UTF-8.
    Encoding,
    /// More than [`MAX_VALUES`].
    TooMany,
    /// Not JSON.
    Syntax(serde_json::Error),
    /// JSON, but no object.
    NoObject,
}

impl JsonError {
    /// A 400 at `location`; `what` begins the sentence.
    pub fn failure(&self, location: &str, what: &str) -> Failure {
        Failure::invalid(location, format!("{what} {self}"))
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("is not UTF-8: send JSON as UTF-8"),
            Self::TooMany => write!(
                f,
                "has more than {MAX_VALUES} values: send large inputs as files or URLs"
            ),
            Self::Syntax(error) => write!(f, "is not JSON: {error}"),
            Self::NoObject => f.write_str("must be a JSON object"),
        }
    }
}

/// A whole text as a value. For a thread that may work: it takes time in proportion to the text.
///
/// # Errors
/// When it is not JSON, or has too many values.
pub fn parse(mut text: Vec<u8>) -> Result<Value, JsonError> {
    counted(&text)?;
    read(&mut text, build::value)
}

/// The members of an object, as far as `keep` wants them.
///
/// # Errors
/// When it is not a JSON object, or has too many values.
pub fn members(
    text: &mut Vec<u8>,
    keep: impl Fn(&str) -> Keep,
) -> Result<Map<String, Value>, JsonError> {
    counted(text)?;
    counted_members(text, keep)
}

/// [`members`] of a text that has been counted while it came. The text may be mended in place.
///
/// # Errors
/// When it is not a JSON object.
pub fn counted_members(
    text: &mut Vec<u8>,
    keep: impl Fn(&str) -> Keep,
) -> Result<Map<String, Value>, JsonError> {
    match read(text, |text| build::members(text, &keep))? {
        Some(members) => Ok(members),
        None => Err(JsonError::NoObject),
    }
}

fn counted(text: &[u8]) -> Result<(), JsonError> {
    let mut counter = Counter::default();
    if counter.feed(text) {
        Ok(())
    } else {
        Err(JsonError::TooMany)
    }
}

fn read<T>(
    text: &mut Vec<u8>,
    build: impl Fn(&str) -> Result<T, serde_json::Error>,
) -> Result<T, JsonError> {
    let first = match build(checked(text)?) {
        Ok(built) => return Ok(built),
        Err(error) => error,
    };
    // Mending costs another pass, so it is only done for the rare text that needs it.
    if first.is_syntax()
        && mend_surrogates(text)
        && let Ok(built) = build(checked(text)?)
    {
        return Ok(built);
    }
    if first.is_syntax() && has_numbers_of_python(text) {
        *text = mend(text);
        if let Ok(built) = build(checked(text)?) {
            return Ok(built);
        }
    }
    if text.first() == Some(&0) || text.get(1) == Some(&0) {
        return Err(JsonError::Encoding);
    }
    Err(JsonError::Syntax(first))
}

/// Whether a copy of the text is worth its memory.
fn has_numbers_of_python(text: &[u8]) -> bool {
    text.windows(3).any(|word| word == b"NaN") || text.windows(8).any(|word| word == b"Infinity")
}

/// As UTF-8, without a byte-order mark.
fn checked(text: &[u8]) -> Result<&str, JsonError> {
    let text = std::str::from_utf8(text).map_err(|_| JsonError::Encoding)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Replaces escaped surrogates without a partner by the escape of U+FFFD, which is as long. Whether
/// there were any.
fn mend_surrogates(text: &mut [u8]) -> bool {
    let mut mended = false;
    let mut at = 0;
    while let Some(escape) = text[at..].iter().position(|byte| *byte == b'\\') {
        at += escape;
        match (
            code_unit(&text[at..]),
            code_unit(text.get(at + 6..).unwrap_or_default()),
        ) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 12,
            (Some(0xD800..=0xDFFF), _) => {
                text[at + 2..at + 6].copy_from_slice(b"fffd");
                mended = true;
                at += 6;
            }
            _ => at = (at + 2).min(text.len()),
        }
    }
    mended
}

/// The code unit of `\uXXXX` at the beginning of a text.
pub fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What JSON Schema calls a value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The bytes of a value as JSON, without writing it.
///
/// # Errors
/// When it cannot be written.
pub fn length(value: &impl Serialize) -> serde_json::Result<usize> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    Ok(length.0)
}

/// A large value as JSON. Its length is known before, because a text that grows takes half as much
/// again (attack.md, A10).
///
/// # Errors
/// When it cannot be written.
pub fn written(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(length(value)?);
    serde_json::to_writer(&mut text, value)?;
    Ok(text)
}

struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_large_value_is_written_without_room_to_spare() {
        let value = json!({"a": ["\u{e9}\n", 1.5, null], "b": "x".repeat(100_000)});
        let text = written(&value).unwrap();
        assert_eq!(text, serde_json::to_vec(&value).unwrap());
        assert_eq!(text.len(), text.capacity());
    }

    fn all(_: &str) -> Keep {
        Keep::All
    }

    fn nothing(_: &str) -> Keep {
        Keep::Nothing
    }

    /// F12
    #[test]
    fn texts_of_real_clients_are_read() {
        for (text, value) in [
            ("\u{feff}{\"a\": 1}", json!({"a": 1})),
            ("\u{feff} [1]\n", json!([1])),
            (r#"{"a": "x\ud83dy"}"#, json!({"a": "x\u{fffd}y"})),
            (r#"{"a": "\ude00\ud83d"}"#, json!({"a": "\u{fffd}\u{fffd}"})),
            (r#"{"a": "\ud83d\ude00"}"#, json!({"a": "\u{1f600}"})),
            (r#"{"\ud83d": "\\ud83d"}"#, json!({"\u{fffd}": "\\ud83d"})),
            (
                r#"{"a": "\ud83d\ud83d\ude00\"}"}"#,
                json!({"a": "\u{fffd}\u{1f600}\"}"}),
            ),
            (
                r#"{"a": [NaN, -Infinity], "b": "NaN\ud83d"}"#,
                json!({"a": [null, null], "b": "NaN\u{fffd}"}),
            ),
            (
                r#"{"a": 1.5e3, "b": [true, null, -7, 18446744073709551615]}"#,
                json!({"a": 1500.0, "b": [true, null, -7, u64::MAX]}),
            ),
        ] {
            assert_eq!(parse(text.into()).unwrap(), value, "{text}");
        }
        let utf16: Vec<u8> = "{\"a\": 1}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let mut marked = vec![0xff, 0xfe];
        marked.extend(&utf16);
        for text in [
            utf16,
            marked,
            b"{\"\xff\": 1}".to_vec(),
            b"\"\xed\xa0\xbd\"".to_vec(),
        ] {
            assert!(matches!(parse(text), Err(JsonError::Encoding)));
        }
        for text in [
            "",
            "{",
            "\u{feff}",
            "{} {}",
            "{'a': 1}",
            r#""\ud83d"#,
            r#""\u12"#,
            "Nan",
        ] {
            assert!(
                matches!(parse(text.into()), Err(JsonError::Syntax(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn only_what_is_wanted_is_built() {
        let text = r#"{"a": {"b": [1, 2]}, "x": [[[]]], "\ud83d": "\ud83d", "a2": "t", "a": 3,
            "o1": {"n": [1]}, "o2": [1, {"a": 2}], "o3": null, "o4": "t"}"#;
        let keep = |name: &str| match name.chars().next() {
            Some('a') => Keep::All,
            Some('o') => Keep::Objects,
            _ => Keep::Nothing,
        };
        let wanted = members(&mut text.into(), keep).unwrap();
        let expected =
            json!({"a": 3, "a2": "t", "o1": {"n": [1]}, "o2": null, "o3": null, "o4": null});
        assert_eq!(Value::Object(wanted), expected);
        for text in ["[]", "null", "5", "\"text\""] {
            assert!(
                matches!(members(&mut text.into(), all), Err(JsonError::NoObject)),
                "{text}"
            );
        }
        // What is passed over must be JSON all the same.
        let broken = members(&mut r#"{"x": [1, }"#.into(), nothing);
        assert!(matches!(broken, Err(JsonError::Syntax(_))));
    }

    /// A10
    #[test]
    fn too_many_values_are_refused_before_they_are_built() {
        let list = |count: usize| format!("{{\"x\": [{}0]}}", "0,".repeat(count - 1)).into_bytes();
        assert!(members(&mut list(999_990), all).is_ok());
        assert!(matches!(
            members(&mut list(1_000_001), nothing),
            Err(JsonError::TooMany)
        ));
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(deep.into()), Err(JsonError::Syntax(_))));
    }
}
