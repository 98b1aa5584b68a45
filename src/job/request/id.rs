//! Ids of callers: any text, given back as it came, and the form of it that file names can hold
//! (drop-in.md, D01).

use sha2::{Digest, Sha256};

use crate::error::Failure;
use crate::limits::MAX_NAME;

/// Longest form in file names, in bytes: a prefix, a counter and an extension follow, and the name
/// may have 255.
const MAX_FILE_NAME: usize = 100;
/// `-` and eight hex digits.
const MARK: usize = 9;

/// Checks an id.
///
/// # Errors
/// A 400 at `id`.
pub(super) fn check(id: &str) -> Result<(), Failure> {
    let characters = id.chars().take(MAX_NAME + 1).count();
    if characters == 0 || characters > MAX_NAME || id.chars().any(char::is_control) {
        let message = format!(
            "\"id\" must be 1 to {MAX_NAME} characters without control characters; this one has {}",
            id.chars().count()
        );
        return Err(Failure::invalid("id", message));
    }
    Ok(())
}

/// The id as file names hold it: itself where a file name and ComfyUI's prefixes can carry it. What
/// had to be changed ends in a part of its hash, so that two ids do not meet.
pub fn file_name(id: &str) -> String {
    let replaced: String = id
        .char_indices()
        .map(|(at, char)| match char {
            // ComfyUI replaces `%date:...%` and the like in prefixes.
            '/' | '\\' | '%' => '_',
            '.' if at == 0 => '_',
            other => other,
        })
        .collect();
    if replaced == id && id.len() <= MAX_FILE_NAME {
        return replaced;
    }
    let mut end = replaced.len().min(MAX_FILE_NAME - MARK);
    while !replaced.is_char_boundary(end) {
        end -= 1;
    }
    let hash = Sha256::digest(id.as_bytes());
    let mark = hex::encode(&hash[..4]);
    format!("{}-{mark}", &replaced[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D01
    #[test]
    fn ids_of_other_people_are_taken() {
        let longest = "é".repeat(256);
        for id in [
            "user:42",
            "a b",
            "job#1",
            "é-1",
            "user@example.com",
            "50%",
            "(1)",
            "..",
            ".",
            " ",
            "a/b",
            "日本",
            &longest,
        ] {
            assert!(check(id).is_ok(), "{id}");
        }
        for id in ["", "a\nb", "\u{7f}", "a\0", "\u{85}", &"x".repeat(257)] {
            assert_eq!(
                check(id).unwrap_err().location.as_deref(),
                Some("id"),
                "{id:?}"
            );
        }
        let long = check(&"x".repeat(1_000_000)).unwrap_err();
        assert!(long.message.len() < 200 && long.message.contains("1000000"));
    }

    #[test]
    fn file_names_keep_what_they_can_and_never_meet() {
        for same in [
            "order-1234",
            "user:42",
            "a b",
            "job#1",
            "é-1",
            "user@example.com",
            "(1)",
            "2026-01-01T00:00:00Z",
            "a.b",
            &"x".repeat(100),
        ] {
            assert_eq!(file_name(same), same);
        }
        let forms: Vec<String> = [
            "a/b",
            "a\\b",
            "a%b",
            "a_b",
            ".",
            "..",
            ".a",
            "_a",
            "50%",
            &"x".repeat(101),
            &"x".repeat(102),
            &"é".repeat(256),
        ]
        .map(file_name)
        .into();
        for form in &forms {
            assert!(
                form.len() <= MAX_FILE_NAME
                    && !form.contains(['/', '\\', '%'])
                    && !form.starts_with('.'),
                "{form}"
            );
        }
        let distinct: std::collections::HashSet<&String> = forms.iter().collect();
        assert_eq!(distinct.len(), forms.len(), "{forms:?}");
        assert_eq!(file_name("a/b"), format!("a_b-{}", &sha("a/b")[..8]));
    }

    fn sha(text: &str) -> String {
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}
