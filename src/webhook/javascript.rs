//! JSON as JavaScript writes it after having read it (drop-in.md, D06): receivers verify a
//! signature over `JSON.stringify(JSON.parse(body))`, so our bodies must be what that gives.

use serde_json::{Map, Number, Value};

/// The greatest whole number that JavaScript counts exactly up to.
const EXACT: u64 = 1 << 53;
/// Keys up to this one are places of an array.
const LAST_INDEX: u64 = u32::MAX as u64 - 1;

/// `JSON.stringify(JSON.parse(text))`; nothing when it is not JSON.
pub fn rewritten(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut written = String::with_capacity(text.len());
    write(&value, &mut written);
    Some(written)
}

/// `JSON.stringify(value)`.
pub fn stringify(value: &Value) -> String {
    let mut written = String::new();
    write(value, &mut written);
    written
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&written_number(number)),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => write_object(members, out),
    }
}

/// Keys that are places of an array come first, in their order: ids of nodes are such keys.
fn write_object(members: &Map<String, Value>, out: &mut String) {
    let mut places: Vec<(u64, &String, &Value)> = members
        .iter()
        .filter_map(|(key, member)| Some((place(key)?, key, member)))
        .collect();
    places.sort_unstable_by_key(|(place, ..)| *place);
    let others = members.iter().filter(|(key, _)| place(key).is_none());
    let all = places
        .iter()
        .map(|(_, key, member)| (*key, *member))
        .chain(others);
    out.push('{');
    for (index, (key, member)) in all.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write(member, out);
    }
    out.push('}');
}

fn place(key: &str) -> Option<u64> {
    let canonical = key == "0" || !key.starts_with('0');
    if !canonical || key.len() > 10 || !key.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    key.parse().ok().filter(|place| *place <= LAST_INDEX)
}

/// serde_json escapes as `JSON.stringify` does.
fn write_text(text: &str, out: &mut String) {
    if text
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn written_number(number: &Number) -> String {
    if let Some(whole) = number.as_i64()
        && whole.unsigned_abs() <= EXACT
    {
        return whole.to_string();
    }
    number.as_f64().map_or_else(|| "null".to_owned(), shortest)
}

/// `Number::toString` of ECMAScript. Rust finds the same shortest digits; only their layout
/// differs.
fn shortest(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let written = format!("{:e}", number.abs());
    let Some((mantissa, exponent)) = written.split_once('e') else {
        return "null".to_owned();
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    // The place of the decimal point behind the first digit.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let text = match point {
        1..=21 if count <= point => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
            format!("{whole}.{fraction}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let rest = if rest.is_empty() {
                String::new()
            } else {
                format!(".{rest}")
            };
            let sign = if point > 0 { '+' } else { '-' };
            format!("{first}{rest}e{sign}{}", (point - 1).abs())
        }
    };
    if number < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D06. What Node.js 22 makes of these texts; tests/it/webhook compares many more with Node
    /// itself.
    #[test]
    fn texts_are_written_as_javascript_writes_them() {
        for (text, written) in [
            (
                r#"{"b": 1, "10": 2, "a": 3, "3": 4, "03": 5, "-1": 6}"#,
                r#"{"3":4,"10":2,"b":1,"a":3,"03":5,"-1":6}"#,
            ),
            (
                r#"{"4294967294": 1, "4294967295": 2, "0": 3}"#,
                r#"{"0":3,"4294967294":1,"4294967295":2}"#,
            ),
            (r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"a":3,"b":2}"#),
            (
                "[8.0, 1e21, 1e20, 1E-7, 0.000001, -0.0, 123456789012345678901]",
                "[8,1e+21,100000000000000000000,1e-7,0.000001,0,123456789012345680000]",
            ),
            (
                "[9007199254740993, 18446744073709551615, 0.1, 5e-324, 1.7976931348623157e308, \
                 12.5e-7]",
                "[9007199254740992,18446744073709552000,0.1,5e-324,1.7976931348623157e+308,0.\
                 00000125]",
            ),
            (
                r#""\u00e9\u2028\/\u0001\n\"\u007f""#,
                "\"\u{e9}\u{2028}/\\u0001\\n\\\"\u{7f}\"",
            ),
            (
                " { \"x\" : [ ] , \"y\" : { } , \"z\" : null } ",
                r#"{"x":[],"y":{},"z":null}"#,
            ),
        ] {
            assert_eq!(rewritten(text).as_deref(), Some(written));
        }
        assert_eq!(rewritten("{"), None);
    }
}
