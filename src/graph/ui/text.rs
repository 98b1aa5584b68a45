//! Texts as JavaScript and the editor treat them: conversion to text, choices by chance, patterns.

use serde_json::Value;

/// JavaScript's `Boolean(value)`.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// JavaScript's `String(value)`, with null as nothing.
pub fn javascript(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(javascript).collect();
            parts.join(",")
        }
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            if float.fract() == 0.0 && float.abs() < 1e21 {
                format!("{float:.0}")
            } else if float != 0.0 && (float.abs() >= 1e21 || float.abs() < 1e-6) {
                // Rust writes 1e-7 where JavaScript has 1e-7, and 1e21 where it has 1e+21.
                let text = format!("{float:e}");
                if text.contains("e-") {
                    text
                } else {
                    text.replace('e', "e+")
                }
            } else {
                float.to_string()
            }
        }
        _ => number.to_string(),
    }
}

/// A prompt as it is sent: comments removed, one of `{a|b|c}` chosen, `\{`, `\|`, `\}` literal.
pub fn dynamic_prompt(text: &str, chance: &mut dyn FnMut(usize) -> usize) -> String {
    let text = without_comments(text);
    if !text.contains(['{', '\\']) {
        return text;
    }
    let blocks = blocks(&text);
    let bytes = text.as_bytes();
    let mut sent = String::with_capacity(text.len());
    // Ranges that are still to be written, the next one last.
    let mut open = vec![(0, bytes.len())];
    while let Some((from, to)) = open.pop() {
        let mut at = from;
        let mut plain = from;
        while at < to {
            match bytes[at] {
                b'\\' if matches!(bytes.get(at + 1), Some(b'{' | b'}' | b'|')) && at + 1 < to => {
                    sent.push_str(text.get(plain..at).unwrap_or_default());
                    plain = at + 1;
                    at += 2;
                }
                b'\\' => at += 2,
                b'{' => {
                    sent.push_str(text.get(plain..at).unwrap_or_default());
                    let Some(block) = blocks.get(&at) else { break };
                    open.push((block.after.min(to), to));
                    open.push(block.options[chance(block.options.len()) % block.options.len()]);
                    plain = to;
                    break;
                }
                _ => at += 1,
            }
        }
        sent.push_str(text.get(plain.min(to)..to).unwrap_or_default());
    }
    sent
}

struct Block {
    options: Vec<(usize, usize)>,
    after: usize,
}

/// Every `{...}` by its place, in one pass.
fn blocks(text: &str) -> std::collections::HashMap<usize, Block> {
    let bytes = text.as_bytes();
    let mut found = std::collections::HashMap::new();
    // Where each began, its options so far, and where the current one begins.
    type Open = (usize, Vec<(usize, usize)>, usize);
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => open.push((at, Vec::new(), at + 1)),
            b'|' => {
                if let Some((_, options, from)) = open.last_mut() {
                    options.push((*from, at));
                    *from = at + 1;
                }
            }
            b'}' => {
                if let Some((start, mut options, from)) = open.pop() {
                    options.push((from, at));
                    found.insert(
                        start,
                        Block {
                            options,
                            after: at + 1,
                        },
                    );
                }
            }
            _ => {}
        }
        at += 1;
    }
    // What is not closed runs to the end.
    for (start, mut options, from) in open {
        options.push((from, bytes.len()));
        found.insert(
            start,
            Block {
                options,
                after: bytes.len(),
            },
        );
    }
    found
}

fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut can_close = true;
    while let Some(at) = rest.find('/') {
        let (before, comment) = rest.split_at(at);
        kept.push_str(before);
        if comment.starts_with("//") {
            let end = comment
                .find(['\n', '\r', '\u{2028}', '\u{2029}'])
                .unwrap_or(comment.len());
            rest = comment.get(end..).unwrap_or_default();
            continue;
        }
        let closed = comment
            .strip_prefix("/*")
            .filter(|_| can_close)
            .map(|inside| inside.find("*/"));
        match closed {
            Some(Some(end)) => rest = comment.get(end + 4..).unwrap_or_default(),
            other => {
                // Without an end behind this one there is none behind later ones.
                can_close = can_close && other.is_none();
                kept.push('/');
                rest = comment.get(1..).unwrap_or_default();
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// `%...%` in a text; what `value` does not know stays as it is.
pub fn replace_patterns(text: &str, value: &mut dyn FnMut(&str) -> Option<String>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, pattern)) = rest.split_once('%') {
        replaced.push_str(before);
        let inside = pattern
            .split_once('%')
            .filter(|(inside, _)| !inside.is_empty());
        match inside {
            Some((inside, after)) => {
                match value(inside) {
                    Some(value) => replaced.push_str(&value),
                    None => {
                        replaced.push('%');
                        replaced.push_str(inside);
                        replaced.push('%');
                    }
                }
                rest = after;
            }
            None => {
                replaced.push('%');
                rest = pattern;
                if !pattern.contains('%') {
                    break;
                }
            }
        }
    }
    replaced.push_str(rest);
    replaced
}

/// A value as part of a file name.
pub fn for_file_name(value: &Value) -> String {
    let text = javascript(value);
    text.chars()
        .map(|c| match c {
            '/' | '?' | '<' | '>' | '\\' | ':' | '*' | '|' | '"' | '\u{7f}' => '_',
            c if c < ' ' => '_',
            c => c,
        })
        .collect()
}

/// `yyyy-MM-dd hh-mm-ss` and the like.
pub fn date(format: &str, now: &jiff::civil::DateTime) -> String {
    let mut text = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        let run = rest.chars().take_while(|c| *c == letter).count();
        let (number, most) = match letter {
            'd' => (i32::from(now.day()), 2),
            'M' => (i32::from(now.month()), 2),
            'h' => (i32::from(now.hour()), 2),
            'm' => (i32::from(now.minute()), 2),
            's' => (i32::from(now.second()), 2),
            'y' => (i32::from(now.year()), 4),
            _ => (0, 0),
        };
        let run = run.min(most);
        match (letter, run) {
            (_, 0) => text.push(letter),
            ('y', 2) => text.push_str(&format!("{:02}", number.rem_euclid(100))),
            ('y', 4) => text.push_str(&number.to_string()),
            ('y', run) => text.push_str(&"y".repeat(run)),
            (_, width) => text.push_str(&format!("{number:0width$}")),
        }
        rest = rest
            .get(run.max(1) * letter.len_utf8()..)
            .unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_lose_comments_and_get_one_of_their_choices() {
        for (prompt, first, last) in [
            ("a cat", "a cat", "a cat"),
            ("a {red|blue} cat", "a red cat", "a blue cat"),
            ("{a {b|c}|d}!", "a b!", "d!"),
            ("{d|a {b|c}}!", "d!", "a c!"),
            ("a /* no */b // to the end\nc", "a b \nc", "a b \nc"),
            ("https://x y", "https:", "https:"),
            ("/* open a", "/* open a", "/* open a"),
            ("\\{a\\|b\\} {x\\|y|z}", "{a|b} x|y", "{a|b} z"),
            ("{a|b", "a", "b"),
            ("{a|{b|c", "a", "c"),
            ("a | b } c", "a | b } c", "a | b } c"),
            ("{}", "", ""),
            ("{|a}", "", "a"),
            ("\\", "\\", "\\"),
            ("\\n{ü|ö}", "\\nü", "\\nö"),
        ] {
            assert_eq!(dynamic_prompt(prompt, &mut |_| 0), first, "{prompt}");
            assert_eq!(
                dynamic_prompt(prompt, &mut |count| count - 1),
                last,
                "{prompt}"
            );
        }
    }

    #[test]
    fn dates_and_patterns_are_replaced() {
        let now = jiff::civil::date(2026, 3, 4).at(15, 6, 7, 0);
        for (format, text) in [
            ("yyyy-MM-dd hh-mm-ss", "2026-03-04 15-06-07"),
            ("yy.M.d_h-m-s", "26.3.4_15-6-7"),
            ("ddd yyy y", "044 yyy y"),
            ("ü", "ü"),
        ] {
            assert_eq!(date(format, &now), text, "{format}");
        }
        let mut value = |name: &str| (name == "a").then(|| "X".to_owned());
        for (text, replaced) in [
            ("%a%/%b%", "X/%b%"),
            // The first two belong together, as in the editor.
            ("50% of %a%", "50% of %a%"),
            ("%a% of 50%", "X of 50%"),
            ("%%a%", "%X"),
            ("100%", "100%"),
            ("%a", "%a"),
        ] {
            assert_eq!(replace_patterns(text, &mut value), replaced, "{text}");
        }
        assert_eq!(for_file_name(&json!("a/b:c\n")), "a_b_c_");
    }

    #[test]
    fn values_become_text_as_in_javascript() {
        for (value, text) in [
            (json!(null), ""),
            (json!(5), "5"),
            (json!(5.0), "5"),
            (json!(0.1), "0.1"),
            (json!(1e21), "1e+21"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(["a", 1, [null, true]]), "a,1,,true"),
            (json!({"a": 1}), "[object Object]"),
        ] {
            assert_eq!(javascript(&value), text);
        }
    }
}
