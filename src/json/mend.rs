//! Makes JSON of what Python and JavaScript take for it: `NaN`, `Infinity` and lone surrogates.

use super::code_unit;

/// Replaces Python's extra numbers outside of strings, and escaped surrogates without a partner
/// inside of them.
pub fn mend(text: &[u8]) -> Vec<u8> {
    let lossy = String::from_utf8_lossy(text);
    let text = lossy.as_bytes();
    let mut mended = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut in_string = false;
    while at < text.len() {
        let rest = &text[at..];
        if in_string {
            at += mend_in_string(rest, &mut mended, &mut in_string);
            continue;
        }
        let word = ["NaN", "Infinity", "-Infinity"]
            .iter()
            .find(|word| rest.starts_with(word.as_bytes()));
        match word {
            Some(word) => {
                mended.extend_from_slice(b"null");
                at += word.len();
            }
            None => {
                in_string = rest[0] == b'"';
                mended.push(rest[0]);
                at += 1;
            }
        }
    }
    mended
}

/// Copies one character or escape; returns how many bytes of `rest` it took.
fn mend_in_string(rest: &[u8], mended: &mut Vec<u8>, in_string: &mut bool) -> usize {
    match rest[0] {
        b'"' => {
            *in_string = false;
            mended.push(b'"');
            1
        }
        b'\\' if rest.get(1) == Some(&b'u') => {
            match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => copy(rest, 12, mended),
                (Some(0xD800..=0xDFFF), _) => {
                    mended.extend_from_slice(b"\\ufffd");
                    6
                }
                _ => copy(rest, 2, mended),
            }
        }
        b'\\' => copy(rest, 2, mended),
        _ => copy(rest, 1, mended),
    }
}

fn copy(rest: &[u8], count: usize, mended: &mut Vec<u8>) -> usize {
    let count = count.min(rest.len());
    mended.extend_from_slice(&rest[..count]);
    count
}
