//! Texts that are put into answers, webhooks, events, lists and the log: bounded whatever a client,
//! ComfyUI, an origin or a broker put into them (attack.md, A11). What is cut ends in `…`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{MAX_ERROR, MAX_QUOTED};

/// At most so many characters, and `…` if there were more. Takes no longer for a longer text.
pub fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// One value of a client as an error text may repeat it.
pub fn quoted(value: &str) -> Cow<'_, str> {
    shorten(value, MAX_QUOTED)
}

/// An error text: no word and nothing between quotation marks longer than [`MAX_QUOTED`], and
/// [`MAX_ERROR`] in all.
pub fn sentence(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_QUOTED {
        return Cow::Borrowed(text);
    }
    let whole = without_middle(text);
    let cut = cut_quotations(&whole);
    let cut = cut_words(&cut);
    if cut.len() == text.len() && cut.chars().count() <= MAX_ERROR {
        return Cow::Borrowed(text);
    }
    Cow::Owned(shorten(&cut, MAX_ERROR).into_owned())
}

/// Of megabytes only both ends are looked at: what stands behind a long value says what is wrong
/// with it.
fn without_middle(text: &str) -> Cow<'_, str> {
    const END: usize = 4 * MAX_ERROR;
    if text.len() <= 2 * END {
        return Cow::Borrowed(text);
    }
    let head = &text[..text.floor_char_boundary(END)];
    let tail = &text[text.ceil_char_boundary(text.len() - END)..];
    Cow::Owned(format!("{head}…{tail}"))
}

/// Cuts what stands between quotation marks: `"`, `'`, or the backtick that serde writes.
fn cut_quotations(text: &str) -> Cow<'_, str> {
    let mut cut = String::new();
    let mut kept = 0;
    let mut rest = 0;
    while let Some((start, mark)) = opening(&text[rest..]) {
        let begin = rest + start + 1;
        let length = closing(&text[begin..], mark);
        let inside = &text[begin..begin + length];
        if let Cow::Owned(short) = quoted(inside) {
            cut.push_str(&text[kept..begin]);
            cut.push_str(&short);
            kept = begin + length;
        }
        rest = (begin + length + 1).min(text.len());
        while !text.is_char_boundary(rest) {
            rest += 1;
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    cut.push_str(&text[kept..]);
    Cow::Owned(cut)
}

/// The next mark that opens a quotation. An apostrophe within a word does not.
fn opening(text: &str) -> Option<(usize, char)> {
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        if matches!(char, '"' | '`') || char == '\'' && !before.is_alphanumeric() {
            return Some((at, char));
        }
        before = char;
    }
    None
}

/// How far the quotation goes: to its mark, else to the end.
fn closing(text: &str, mark: char) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find(mark).map(|at| from + at) {
        let next = text[at + 1..].chars().next();
        if mark != '\'' || !next.is_some_and(char::is_alphanumeric) {
            return at;
        }
        from = at + 1;
    }
    text.len()
}

/// Cuts words, which is what URLs, base64 and paths are.
fn cut_words(text: &str) -> Cow<'_, str> {
    if text
        .split(char::is_whitespace)
        .all(|word| word.len() <= MAX_QUOTED || word.chars().count() <= MAX_QUOTED)
    {
        return Cow::Borrowed(text);
    }
    let mut cut = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        match quoted(word) {
            Cow::Owned(short) => {
                cut.push_str(&short);
                // The mark that closes a quotation, or ends the sentence's part.
                if let Some(end) = word.chars().last().filter(|end| "\"'.,:;)".contains(*end)) {
                    cut.push(end);
                }
            }
            Cow::Borrowed(word) => cut.push_str(word),
        }
        cut.push_str(&piece[word.len()..]);
    }
    Cow::Owned(cut)
}

/// The same value with every text in it as [`sentence`] leaves it, and at most about so many bytes
/// of JSON; what had no place any more is replaced by `…`.
pub fn bounded(value: Value, bytes: usize) -> Value {
    let mut left = bytes;
    bound(value, &mut left)
}

/// What stands where there is no room any more.
const NO_ROOM: &str = "…";

fn bound(value: Value, left: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let text = match sentence(&text) {
                Cow::Borrowed(_) => text,
                Cow::Owned(short) => short,
            };
            let cost = escaped_len(&text) + 3;
            if cost > *left {
                return NO_ROOM.into();
            }
            *left -= cost;
            text.into()
        }
        Value::Array(items) => bound_list(items, left),
        Value::Object(members) => bound_object(members, left),
        other => {
            *left = left.saturating_sub(other.to_string().len() + 1);
            other
        }
    }
}

fn bound_list(items: Vec<Value>, left: &mut usize) -> Value {
    *left = left.saturating_sub(3);
    let mut kept = Vec::new();
    for item in items {
        if *left < 8 {
            kept.push(NO_ROOM.into());
            break;
        }
        kept.push(bound(item, left));
    }
    kept.into()
}

fn bound_object(members: Map<String, Value>, left: &mut usize) -> Value {
    *left = left.saturating_sub(3);
    let mut kept = Map::new();
    for (name, member) in members {
        let name = quoted(&name).into_owned();
        let cost = escaped_len(&name) + 4;
        if *left < cost + 8 {
            kept.insert(NO_ROOM.into(), NO_ROOM.into());
            break;
        }
        *left -= cost;
        kept.insert(name, bound(member, left));
    }
    Value::Object(kept)
}

/// Bytes of a text within JSON, without the quotation marks.
pub fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
            0..=31 => 6,
            _ => 1,
        })
        .sum()
}

/// The beginning of a text that takes at most so many bytes within JSON, `…` included.
pub fn shorten_escaped(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes && escaped_len(text) <= bytes {
        return Cow::Borrowed(text);
    }
    let mut left = bytes.saturating_sub(NO_ROOM.len());
    let mut end = 0;
    let mut buffer = [0; 4];
    for char in text.chars() {
        let cost = escaped_len(char.encode_utf8(&mut buffer));
        if cost > left {
            break;
        }
        left -= cost;
        end += char.len_utf8();
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A11
    #[test]
    fn sentences_keep_their_words_and_lose_the_length() {
        let plain = "node 3 (KSampler) failed: it's \"odd\"";
        assert_eq!(sentence(plain), plain);
        let word = "x".repeat(1_000_000);
        for (text, ends) in [
            (format!("cannot fetch https://h/{word}: 404"), ": 404"),
            (format!("\"{word}\" is no class"), "\" is no class"),
            (format!("'{}' not in list", "a b ".repeat(9_000)), ""),
            (
                format!("value \"{}\" is bad", "a b ".repeat(900)),
                "\" is bad",
            ),
            (format!("value '{}' is bad", "a b ".repeat(900)), "' is bad"),
            (
                format!(
                    "it's {} and that's '{}'. End.",
                    &word[..3_000],
                    &word[..3_000]
                ),
                ". End.",
            ),
            ("wörter ".repeat(20_000), "…"),
        ] {
            let short = sentence(&text);
            assert!(short.chars().count() <= MAX_ERROR + 1, "{}", short.len());
            assert!(short.ends_with(ends), "{short}");
            assert!(short.contains('…'), "{short}");
            assert!(!short.contains(&"a b ".repeat(60)), "{short}");
            assert!(!short.contains(&"x".repeat(MAX_QUOTED + 1)), "{short}");
        }
    }

    #[test]
    fn values_are_bounded_in_all() {
        let same = json!({"node_id": "3", "traceback": ["a\n", "b\n"], "n": 1.5, "none": null});
        assert_eq!(bounded(same.clone(), 64 * 1024), same);
        for value in [
            json!({"exception_message": "x".repeat(1_000_000)}),
            json!({"traceback": vec!["line of a traceback"; 100_000]}),
            json!(vec![0; 1_000_000]),
            json!({"x".repeat(1_000_000): 1}),
            Value::Object((0..100_000).map(|n| (n.to_string(), json!([n]))).collect()),
            json!(vec!["\u{1}".repeat(3_000); 100]),
        ] {
            let short = bounded(value, 64 * 1024).to_string();
            assert!(short.len() <= 64 * 1024 + 64, "{}", short.len());
            assert!(short.contains('…'));
        }
    }

    #[test]
    fn lengths_are_counted_as_written() {
        assert_eq!(shorten_escaped("abc", 3), "abc");
        assert_eq!(shorten_escaped("a\nb\nc\nd\n", 9), "a\nb\n…");
        let long = "ä\"\u{1}".repeat(1_000);
        let short = shorten_escaped(&long, 500);
        assert!(json!(short).to_string().len() <= 502);
    }
}
