//! Text of others that is shown: output of commands, messages of ComfyUI, values of variables. It
//! may have URLs with secrets in it, and the escapes of a terminal.

use std::borrow::Cow;

use serde_json::Value;

use super::public_url;

/// Takes out the escapes of a terminal (colours, titles, single ones) and all control characters
/// but newline and tab.
pub fn plain_text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_sequence(&mut rest),
            '\u{90}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            c if is_control(c) => {}
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// What follows an escape character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            *rest = ahead;
            skip_sequence(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            *rest = ahead;
            skip_string(rest);
        }
        // Intermediate characters and one final one: `ESC ( B`.
        Some(' '..='/') => {
            while matches!(ahead.clone().next(), Some(' '..='/')) {
                ahead.next();
            }
            if matches!(ahead.clone().next(), Some('0'..='~')) {
                ahead.next();
            }
            *rest = ahead;
        }
        Some('0'..='~') => *rest = ahead,
        _ => {}
    }
}

/// Parameters and the final character of a control sequence. One that is broken off ends before
/// what does not belong to it.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    loop {
        let mut ahead = rest.clone();
        match ahead.next() {
            Some(' '..='?') => *rest = ahead,
            Some('@'..='~') => {
                *rest = ahead;
                return;
            }
            _ => return,
        }
    }
}

/// The text of a command to the terminal, up to BEL or ST. One without an end is no command, and
/// its text stays.
fn skip_string(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(c) = ahead.next() {
        match c {
            '\u{7}' | '\u{9c}' => {
                *rest = ahead;
                return;
            }
            '\u{1b}' => {
                let mut end = ahead.clone();
                if end.next() == Some('\\') {
                    *rest = end;
                }
                return;
            }
            '\n' => return,
            _ => {}
        }
    }
}

/// Makes a text fit to be shown: [`plain_text`], and every URL that may carry a secret (userinfo or
/// a query) in its public form.
pub fn public_text(line: &str) -> String {
    let line = &*plain_text(line);
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(colon) = rest.find("://") {
        let (before, _) = rest.split_at(colon);
        let start = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
            .map_or(0, |at| {
                at + before[at..].chars().next().map_or(1, char::len_utf8)
            });
        let end = rest[colon..]
            .find(|c: char| c.is_whitespace() || "'\"<>()`".contains(c))
            .map_or(rest.len(), |at| colon + at);
        let url = &rest[start..end];
        shown.push_str(&rest[..start]);
        shown.push_str(&if url.contains(['@', '?']) {
            public_url_or_stars(url)
        } else {
            url.to_owned()
        });
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

/// [`plain_text`] of every string in a value.
pub fn plain_value(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) => {
            if let Cow::Owned(plain) = plain_text(text) {
                *text = plain;
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = plain_value(item.take())),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| *member = plain_value(member.take())),
        _ => {}
    }
    value
}

/// [`public_text`], where it makes a difference.
pub fn public_str(text: &str) -> Cow<'_, str> {
    if text.contains("://") || text.chars().any(is_control) {
        return Cow::Owned(public_text(text));
    }
    Cow::Borrowed(text)
}

/// [`public_text`] of every string in a value.
pub fn public_value(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) => {
            if let Cow::Owned(public) = public_str(text) {
                *text = public;
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = public_value(item.take())),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| *member = public_value(member.take())),
        _ => {}
    }
    value
}

/// [`public_url`], which normalises; only the userinfo, query and fragment are to go.
fn public_url_or_stars(url: &str) -> String {
    let public = public_url(url);
    // `user:pass@` before a host that does not parse (a port that is none, say) is cut here.
    match public.split_once("://") {
        Some((scheme, tail)) => {
            let authority_end = tail.find('/').unwrap_or(tail.len());
            let (authority, path) = tail.split_at(authority_end);
            format!(
                "{scheme}://{}{path}",
                authority
                    .rsplit_once('@')
                    .map_or(authority, |(_, host)| host)
            )
        }
        None => public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U6
    #[test]
    fn escapes_of_a_terminal_and_control_characters_are_taken_out() {
        for (text, plain) in [
            ("\u{1b}[31mOut of memory\u{1b}[0m", "Out of memory"),
            ("\u{1b}[1;38;5;196mred\u{1b}[m\u{1b}[K", "red"),
            (
                "\u{1b}]0;title\u{7}a\u{1b}]8;;http://h\u{1b}\\link",
                "alink",
            ),
            ("\u{1b}(Ba\u{1b}7b\u{1b}=c", "abc"),
            ("\u{9b}32mgreen\u{9b}0m", "green"),
            ("a\u{0}b\u{8}c\rd\u{7f}e\u{85}f", "abcdef"),
            (
                "kept\tand\nkept \u{e4}\u{1f600}",
                "kept\tand\nkept \u{e4}\u{1f600}",
            ),
            ("cut \u{1b}[31", "cut "),
            ("cut \u{1b}", "cut "),
            ("open \u{1b}]0;no end", "open 0;no end"),
        ] {
            assert_eq!(plain_text(text), plain, "{text:?}");
        }
        assert_eq!(
            public_value(serde_json::json!({"a": ["\u{1b}[31mx"]})),
            serde_json::json!({"a": ["x"]})
        );
    }

    #[test]
    fn credentials_in_urls_are_cut_out_of_lines() {
        for (line, shown) in [
            ("nothing here: at all @ home", "nothing here: at all @ home"),
            (
                "fatal: unable to access 'https://me:tok@h.example/a/b.git/': 404",
                "fatal: unable to access 'https://h.example/a/b.git/': 404",
            ),
            (
                "Looking in indexes: https://u:p@i.example/simple, https://j.example/x?token=1 end",
                "Looking in indexes: https://i.example/simple, https://j.example/x end",
            ),
            (
                "git+https://ghp_x@github.com/u/r.git@v1",
                "git+https://github.com/u/r.git@v1",
            ),
            ("\u{e4}https://u:p@h.example/", "\u{e4}https://h.example/"),
            ("https://u:p@bad:xx/a host:xx", "***@bad:xx/a host:xx"),
        ] {
            assert_eq!(public_text(line), shown);
        }
    }
}
