//! JSON strings as bytes: where they end, and what they hold, decoded in place. A task that was
//! encoded twice costs no copy.

use crate::json::code_unit;

/// Whether a text is one JSON string, or begins as one.
pub(super) fn is_quoted(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii_start().first() == Some(&b'"')
}

/// Where the string that begins at `start` ends: the place of its closing quote.
pub(super) fn end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Replaces a JSON string by what it holds, as far as it goes. `false` when it is not one whole
/// string.
pub(super) fn unquote(bytes: &mut Vec<u8>) -> bool {
    let Some(quote) = bytes.iter().position(|byte| *byte == b'"') else {
        return false;
    };
    let (mut from, mut to, mut whole) = (quote + 1, 0, false);
    while let Some(byte) = bytes.get(from).copied() {
        match byte {
            b'"' => {
                whole = bytes[from + 1..].trim_ascii().is_empty();
                break;
            }
            b'\\' => {
                let Some((text, length)) = escape(&bytes[from..]) else {
                    break;
                };
                let mut buffer = [0; 4];
                let text = text.encode_utf8(&mut buffer).as_bytes();
                // An escape is never shorter than what it stands for.
                bytes[to..to + text.len()].copy_from_slice(text);
                to += text.len();
                from += length;
            }
            other => {
                bytes[to] = other;
                to += 1;
                from += 1;
            }
        }
    }
    bytes.truncate(to);
    whole
}

/// What an escape stands for, and its length. Half a pair of surrogates stands for U+FFFD.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.get(1)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => {
            let unit = code_unit(bytes)?;
            let next = || code_unit(bytes.get(6..)?);
            return Some(match unit {
                0xD800..0xDC00 => match next() {
                    Some(low @ 0xDC00..0xE000) => {
                        let high = u32::from(unit) - 0xD800;
                        let code = 0x10000 + (high << 10) + (u32::from(low) - 0xDC00);
                        (char::from_u32(code)?, 12)
                    }
                    _ => (char::REPLACEMENT_CHARACTER, 6),
                },
                0xDC00..0xE000 => (char::REPLACEMENT_CHARACTER, 6),
                _ => (char::from_u32(unit.into())?, 6),
            });
        }
        other @ (b'"' | b'\\' | b'/') => char::from(*other),
        _ => return None,
    };
    Some((simple, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_as_serde_decodes_them() {
        for text in [
            r#""plain""#,
            r#"  "a\"b\\c\/d\n\t\r\b\f" "#,
            r#""\u00e9 \ud83d\ude00 \u0000""#,
            r#""""#,
            "\"\u{e9}\u{1f600}\"",
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert!(is_quoted(&bytes) && unquote(&mut bytes), "{text}");
            let expected: String = serde_json::from_str(text).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
        let mut halves = br#""\ud83d \ude00\ud83dx""#.to_vec();
        assert!(unquote(&mut halves));
        assert_eq!(
            String::from_utf8(halves).unwrap(),
            "\u{fffd} \u{fffd}\u{fffd}x"
        );
        for cut in [
            r#""abc"#,
            r#""abc" d"#,
            r#""ab\q""#,
            r#""ab\u12""#,
            "\"ab\\",
        ] {
            assert!(!unquote(&mut cut.as_bytes().to_vec()), "{cut}");
        }
    }
}
