//! Names inside of archives: different ones for packing, safe ones for unpacking.

use std::collections::HashSet;
use std::path::PathBuf;

/// Hands out names that differ, even for file systems that do not tell upper from lower case.
#[derive(Debug, Default)]
pub(super) struct DistinctNames(HashSet<String>);

impl DistinctNames {
    /// The name, or with `_2`, `_3`, ... before its extension when it was given before.
    pub(super) fn give(&mut self, wanted: &str) -> String {
        let parts: Vec<&str> = wanted
            .split(['/', '\\'])
            .filter(|part| !matches!(*part, "" | "." | ".."))
            .collect();
        let wanted = if parts.is_empty() {
            "file".to_owned()
        } else {
            parts.join("/")
        };
        let start = wanted.rfind('/').map_or(0, |at| at + 1);
        let dot = wanted
            .rfind('.')
            .filter(|at| *at > start)
            .unwrap_or(wanted.len());
        let (stem, extension) = wanted.split_at(dot);
        let mut name = wanted.clone();
        let mut count = 1_u64;
        while !self.0.insert(name.to_lowercase()) {
            count += 1;
            name = format!("{stem}_{count}{extension}");
        }
        name
    }
}

/// The relative path for a name found in an archive, `None` when it may be left out (a folder's own
/// entry, what macOS adds).
///
/// # Errors
/// A sentence for a name that could lead out of the directory.
pub(super) fn safe_path(name: &str) -> Result<Option<PathBuf>, String> {
    let shown: String = name.chars().take(80).collect();
    let refuse = |what: &str| {
        Err(format!(
            "The archive holds an entry whose name {what} (\"{shown}\"); only relative names \
             inside of it are allowed."
        ))
    };
    let name = name.replace('\\', "/");
    let drive = name.as_bytes().get(1) == Some(&b':')
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    if name.starts_with('/') || drive {
        return refuse("is absolute");
    }
    if name.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    if name.len() > 1024 || name.split('/').any(|part| part.len() > 255) {
        return refuse("is too long");
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("has \"..\" in it"),
            "__MACOSX" => return Ok(None),
            part => path.push(part),
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::{DistinctNames, safe_path};

    #[test]
    fn equal_names_become_different() {
        let mut names = DistinctNames::default();
        let given: Vec<String> = [
            "a.png",
            "a.png",
            "A.png",
            "a_2.png",
            "../x",
            "tar.tar.gz",
            "b",
            "b",
        ]
        .iter()
        .map(|name| names.give(name))
        .collect();
        assert_eq!(
            given,
            [
                "a.png",
                "a_2.png",
                "A_3.png",
                "a_2_2.png",
                "x",
                "tar.tar.gz",
                "b",
                "b_2"
            ]
        );
    }

    #[test]
    fn unsafe_names_are_refused() {
        for name in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "..\\x",
            "C:\\x",
            "a\0b",
            "C:x",
        ] {
            assert!(safe_path(name).is_err(), "{name}");
        }
        assert_eq!(
            safe_path("./a//b.png").unwrap().unwrap().to_str(),
            Some("a/b.png")
        );
        assert_eq!(safe_path("__MACOSX/._a").unwrap(), None);
        assert_eq!(safe_path("./").unwrap(), None);
    }
}
