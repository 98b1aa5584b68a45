//! Base64 as clients send it: either alphabet, wrapped, percent-encoded by a browser, with `+` lost
//! in a form, without padding (faults.md, F13 and F20).

use std::fmt;

/// Why a text cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A character that base64 does not have, and which of the text's characters it is, counted
    /// from 1.
    Character(char, usize),
    /// So many characters of base64 are no whole bytes.
    CutOff(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(char, at) => {
                write!(
                    f,
                    "is broken at its character {at}, '{}'",
                    char.escape_debug()
                )
            }
            Self::CutOff(count) => write!(f, "is cut off: {count} characters are no whole bytes"),
        }
    }
}

/// Decodes leniently.
///
/// # Errors
/// Where the text is wrong.
pub fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = unescaped(text);
    if plus_was_lost(&bytes) {
        bytes
            .iter_mut()
            .filter(|byte| **byte == b' ')
            .for_each(|byte| *byte = b'+');
    }
    bytes.retain_mut(|byte| {
        match *byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
        !byte.is_ascii_whitespace()
    });
    while bytes.last() == Some(&b'=') {
        bytes.pop();
    }
    let decoded = match base64_simd::STANDARD_NO_PAD.decode_inplace(&mut bytes) {
        Ok(decoded) => decoded.len(),
        Err(_) => return Err(fault(text)),
    };
    bytes.truncate(decoded);
    Ok(bytes)
}

/// Percent-escapes decoded; what is no escape stays.
fn unescaped(text: &str) -> Vec<u8> {
    if text.contains('%') {
        percent_encoding::percent_decode_str(text).collect()
    } else {
        text.as_bytes().to_vec()
    }
}

/// Whether the spaces in a text are what a form has made of `+`, and not the ends of lines. With as
/// many characters as base64 has only in one of the two readings, that one is meant; otherwise
/// lines are all of one length.
fn plus_was_lost(bytes: &[u8]) -> bool {
    let trimmed = bytes.trim_ascii();
    let spaces = trimmed.iter().filter(|byte| **byte == b' ').count();
    if spaces == 0 {
        return false;
    }
    let others = trimmed
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .count();
    match (
        others.is_multiple_of(4),
        (others + spaces).is_multiple_of(4),
    ) {
        (true, false) => return false,
        (false, true) => return true,
        _ => {}
    }
    let mut lines = trimmed.split(u8::is_ascii_whitespace).map(<[u8]>::len);
    let first = lines.next().unwrap_or_default();
    let mut last = first;
    let equal = lines.all(|line| {
        let fits = last == first && line <= first;
        last = line;
        fits
    });
    !equal
}

/// Where the first mistake is. For the rare text that has one.
fn fault(text: &str) -> Fault {
    let mut count = 0;
    let mut padded = None;
    let mut chars = text.chars().enumerate();
    while let Some((at, char)) = chars.next() {
        if char.is_ascii_whitespace() {
            continue;
        }
        let is_escape = char == '%' && text_escape(&mut chars.clone().map(|(_, char)| char));
        if is_escape {
            chars.nth(1);
        } else if char == '=' {
            padded.get_or_insert(at);
            continue;
        } else if !(char.is_ascii_alphanumeric() || "+/-_".contains(char)) {
            return Fault::Character(char, at + 1);
        }
        if let Some(at) = padded {
            return Fault::Character('=', at + 1);
        }
        count += 1;
    }
    Fault::CutOff(count)
}

fn text_escape(next: &mut impl Iterator<Item = char>) -> bool {
    next.take(2).filter(char::is_ascii_hexdigit).count() == 2
}

/// Cheap test of the beginning, so that a file name is not decoded and a text of megabytes is not
/// scanned for nothing.
pub fn looks_like_it(text: &str) -> bool {
    /// Shortest base64 that can be a file; shorter words are names.
    const SHORTEST: usize = 16;
    let head: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .take(64)
        .collect();
    let known = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'%')
    };
    head.len() >= SHORTEST && head.iter().all(|byte| known(*byte))
}

/// Whether a text begins like base64 of a kind of file that is sent as such, and is no short name.
pub fn begins_like_a_file(text: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "iVBOR", "/9j/", "_9j_", "%2F9j%2F", "UklGR", "R0lGOD", "AAAA", "GkXfo", "T2dnU", "SUQz",
        "ZkxhQ", "UEsDB", "H4sI", "SUkq", "TU0A", "Qk0",
    ];
    /// Names of files have an extension; nobody's name is so long.
    const LONGEST_NAME: usize = 100;
    BEGINNINGS.iter().any(|begin| text.starts_with(begin))
        && (text.len() > LONGEST_NAME || !text.contains('.'))
        && text.len() >= 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that have every character of base64 in them.
    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    }

    /// F13
    #[test]
    fn every_form_is_decoded() {
        for length in [300, 301, 302, 3_000] {
            let bytes = bytes(length);
            let plain = crate::document::base64(&bytes);
            let wrapped = |every: usize, end: &str| {
                let lines: Vec<&str> = plain
                    .as_bytes()
                    .chunks(every)
                    .map(|line| std::str::from_utf8(line).unwrap())
                    .collect();
                lines.join(end)
            };
            let encoded = plain
                .replace('+', "%2B")
                .replace('/', "%2f")
                .replace('=', "%3D");
            for text in [
                plain.clone(),
                plain.trim_end_matches('=').to_owned(),
                plain.replace('+', "-").replace('/', "_"),
                wrapped(76, "\r\n"),
                wrapped(76, " "),
                wrapped(64, "\n "),
                wrapped(76, "%0A"),
                encoded.replace("%2B", "%20"),
                encoded,
                plain.replace('+', " "),
                format!("\n {plain}\n"),
            ] {
                assert_eq!(decode(&text).as_ref(), Ok(&bytes), "{text}");
            }
        }
    }

    /// F20
    #[test]
    fn mistakes_are_located() {
        let plain = crate::document::base64(&bytes(300));
        let with = |at: usize, char: &str| format!("{}{char}{}", &plain[..at], &plain[at..]);
        assert_eq!(decode(&with(50, "!")), Err(Fault::Character('!', 51)));
        assert_eq!(decode(&with(50, "…")), Err(Fault::Character('…', 51)));
        assert_eq!(decode(&with(50, "=")), Err(Fault::Character('=', 51)));
        assert_eq!(decode(&with(50, "%zz")), Err(Fault::Character('%', 51)));
        assert_eq!(decode(&plain[..397]), Err(Fault::CutOff(397)));
        assert_eq!(
            Fault::Character('!', 51).to_string(),
            "is broken at its character 51, '!'"
        );
    }

    #[test]
    fn names_are_not_taken_for_base64() {
        for name in [
            "photo.png",
            "AAAA.png",
            "AAAABBBBCCCCDDDDEEEEFFFF.safetensors",
            "/9j/x",
        ] {
            assert!(!begins_like_a_file(name), "{name}");
        }
        assert!(begins_like_a_file(&format!("/9j/{}!", "A".repeat(40))));
        assert!(begins_like_a_file(&format!("iVBOR{}.", "A".repeat(400))));
    }
}
