//! JSON as Python reads and writes it: ASCII with escapes, bare `NaN` and `Infinity`, lone
//! surrogates.
//!
//! `serde_json` knows none of the three, so they travel inside ordinary values: a non-finite number
//! is a string that starts with [`MARK`], and a lone surrogate is a code point of a private plane.
//! The writer turns them back.

use serde_json::{Map, Value};

/// Starts a string that stands for a bare token.
const MARK: char = '\u{E000}';
/// `0xD800` is written here while inside a Rust string.
const SURROGATES: u32 = 0xF0000;

/// The value that is written as `NaN`.
pub fn nan() -> Value {
    Value::String(format!("{MARK}NaN"))
}

/// The token of a value that stands for a non-finite number.
pub fn non_finite(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(MARK)
}

/// Reads what Python's `json.loads` reads.
pub fn parse(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body)
        .or_else(|error| serde_json::from_str(&made_strict(body).ok_or(error)?))
}

/// The same document in strict JSON, or `None` if it is not text.
fn made_strict(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => string_end(rest),
            '-' | '0'..='9' | 'N' | 'I' => rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, tail) = rest.split_at(taken);
        rest = tail;
        match first {
            '"' => out.push_str(&without_lone_surrogates(token)),
            '-' | '0'..='9' | 'N' | 'I' => {
                let bare = match token {
                    "NaN" | "Infinity" | "-Infinity" => Some(token),
                    _ => match token.parse::<f64>() {
                        Ok(number) if number == f64::INFINITY => Some("Infinity"),
                        Ok(number) if number == f64::NEG_INFINITY => Some("-Infinity"),
                        _ => None,
                    },
                };
                match bare {
                    Some(bare) => out.push_str(&format!("\"{MARK}{bare}\"")),
                    None => out.push_str(token),
                }
            }
            _ => out.push_str(token),
        }
    }
    Some(out)
}

/// Where the string that `text` starts with ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn without_lone_surrogates(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = surrogate(rest);
        let low = rest.get(6..).and_then(surrogate_of);
        match (unit, low) {
            (Some(high @ 0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => {
                let _ = high;
                out.push_str(&rest[..12]);
                rest = &rest[12..];
            }
            (Some(unit), _) => {
                out.extend(char::from_u32(SURROGATES + unit - 0xD800));
                rest = &rest[6..];
            }
            (None, _) => {
                let two = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..two]);
                rest = &rest[two..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn surrogate_of(text: &str) -> Option<u32> {
    surrogate(text)
}

/// The unit of a `\uXXXX` escape at the start, if it is a surrogate.
fn surrogate(text: &str) -> Option<u32> {
    let unit = u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&unit).then_some(unit)
}

/// Writes what Python's `json.dumps` writes.
pub fn dumps(value: &Value) -> String {
    let mut out = String::with_capacity(256);
    write(value, &mut out);
    out
}

/// Appends a value to a document.
pub fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => match text.strip_prefix(MARK) {
            Some(bare @ ("NaN" | "Infinity" | "-Infinity")) => out.push_str(bare),
            _ => write_string(text, out),
        },
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => write_object(fields, out),
    }
}

fn write_object(fields: &Map<String, Value>, out: &mut String) {
    out.push('{');
    for (index, (name, item)) in fields.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_string(name, out);
        out.push_str(": ");
        write(item, out);
    }
    out.push('}');
}

/// Appends a string with everything outside of ASCII escaped.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                let code = u32::from(c);
                if (SURROGATES..SURROGATES + 0x800).contains(&code) {
                    out.push_str(&format!("\\u{:04x}", code - SURROGATES + 0xD800));
                } else {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
    }
    out.push('"');
}

/// A value as Python's `str()` shows it.
pub fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.strip_prefix(MARK).map_or_else(
            || text.clone(),
            |token| {
                token
                    .trim_start_matches('+')
                    .to_lowercase()
                    .replace("infinity", "inf")
            },
        ),
        _ => repr(value),
    }
}

/// A value as Python's `repr()` shows it.
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!(
            "'{}'",
            text.replace('\\', "\\\\")
                .replace('\'', "\\'")
                .replace('\n', "\\n")
        ),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(repr).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(fields) => {
            format!(
                "{{{}}}",
                fields
                    .iter()
                    .map(|(name, item)| format!(
                        "{}: {}",
                        repr(&Value::from(name.as_str())),
                        repr(item)
                    ))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    }
}

/// What Python's `bool()` says.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_tokens_and_lone_surrogates_survive() {
        let value =
            parse(br#"{"a": NaN, "b": [1e999, -Infinity], "c": "x\ud800y \ud83d\ude00 \\ud800"}"#)
                .unwrap();
        assert_eq!(
            dumps(&value),
            r#"{"a": NaN, "b": [Infinity, -Infinity], "c": "x\ud800y \ud83d\ude00 \\ud800"}"#
        );
        assert!(parse(b"{").is_err());
    }

    #[test]
    fn strings_are_ascii() {
        assert_eq!(dumps(&Value::from("é\n\"")), r#""\u00e9\n\"""#);
    }
}
