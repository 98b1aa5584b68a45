//! Lines of text that may have URLs with secrets in them: output of commands, messages of ComfyUI, values of variables.

use serde_json::Value;

use super::public_url;

/// Replaces every URL in a line that may carry a secret (userinfo or a query) by its public form.
pub fn public_text(line: &str) -> String {
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

/// [`public_text`] of every string in a value.
pub fn public_value(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) if text.contains("://") => *text = public_text(text),
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
