//! Names that clients choose for files in our folders: nothing may leave the folder, hide, or mean
//! a device (http-api.md).

use super::{ErrorKind, StorageError};

/// Bytes that a file system takes for one name, less what we put behind it (`.partial`).
const LONGEST_SEGMENT: usize = 240;
const LONGEST_NAME: usize = 1024;

/// Checks a name that a client chose for a model: one file name or a relative path inside the
/// folder (http-api.md). Returns it normalised.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_file_name(name: &str) -> Result<String, StorageError> {
    let wrong = |what: &str| {
        let shown: String = name
            .chars()
            .take(80)
            .map(|char| if char.is_control() { '\u{fffd}' } else { char })
            .collect();
        StorageError::new(
            ErrorKind::Invalid,
            format!(
                "the file name \"{shown}\" {what}: give a plain name, or a relative path inside \
                 the folder"
            ),
        )
    };
    if name.is_empty() {
        return Err(wrong("is empty"));
    }
    if name.len() > LONGEST_NAME {
        return Err(wrong("is too long"));
    }
    if name.chars().any(is_invisible) {
        return Err(wrong("holds control characters"));
    }
    if name.contains('\\') {
        return Err(wrong("holds a backslash"));
    }
    if name.starts_with('/') {
        return Err(wrong("is an absolute path"));
    }
    if name.contains([':', '*', '?', '"', '<', '>', '|']) {
        return Err(wrong("holds one of : * ? \" < > |"));
    }
    for segment in name.split('/') {
        let problem = match segment {
            "" => Some("has an empty part"),
            "." | ".." => Some("leaves its folder"),
            _ if segment.starts_with('.') => Some("is hidden"),
            _ if segment.starts_with('~') => Some("begins with ~"),
            _ if segment.starts_with(' ') || segment.ends_with([' ', '.']) => {
                Some("has a part with spaces around it or a dot behind it")
            }
            _ if segment.len() > LONGEST_SEGMENT => Some("has a part that is too long"),
            _ if is_device(segment) => Some("is the name of a device"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(wrong(problem));
        }
    }
    Ok(name.to_owned())
}

/// Control characters, and those that reorder or hide what is shown.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// Windows' reserved names, with any extension: model folders are often shares.
fn is_device(segment: &str) -> bool {
    let stem = segment
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            matches!(
                rest,
                "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CLOCK$" | "CONIN$" | "CONOUT$"
    ) || numbered("COM")
        || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_are_fine() {
        for name in [
            "model.safetensors",
            "sub/dir/m.ckpt",
            "Juggernaut XL (v9).pt",
            "模型.bin",
            "a..b",
            "console.pt",
            "com10.pt",
            "v1.5",
        ] {
            assert_eq!(check_file_name(name).unwrap(), name);
        }
    }

    #[test]
    fn names_that_are_not() {
        let long = "x".repeat(241);
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            ".hidden",
            "a/.git/config",
            "a\\b",
            "a\0b",
            "a\nb",
            "CON",
            "nul.txt",
            "Lpt1",
            "a/COM3.pt",
            "a ",
            " a",
            "a.",
            "a./b",
            "~root",
            "C:x",
            "a\u{202e}b",
            long.as_str(),
            "..",
            ".",
            "..../x",
        ] {
            assert!(check_file_name(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_folder(name in "[a./\\\\ ~:\\x00-\\x1fCONcon\u{e9}\u{202e}]{0,40}") {
            stays_inside(&name)?;
        }

        #[test]
        fn nothing_at_all_leaves_the_folder(name in any::<String>()) {
            stays_inside(&name)?;
        }
    }

    fn stays_inside(name: &str) -> Result<(), TestCaseError> {
        if let Ok(name) = check_file_name(name) {
            let path = Path::new(&name);
            prop_assert!(
                path.components()
                    .all(|part| matches!(part, Component::Normal(_)))
            );
            prop_assert!(Path::new("/folder").join(path).starts_with("/folder/"));
            prop_assert!(!name.chars().any(char::is_control));
            prop_assert!(
                name.split('/')
                    .all(|part| !part.starts_with('.') && !part.is_empty())
            );
            prop_assert_eq!(check_file_name(&name).unwrap(), name);
        }
        Ok(())
    }
}
