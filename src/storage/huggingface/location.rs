//! Paths on the hub: of files to fetch, and of files to commit.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::storage::{ErrorKind, HfRepoType, HfTarget, StorageError};

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whether a URL is the public hub's.
pub fn is_public_hub(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && matches!(
            url.host_str(),
            Some("huggingface.co" | "www.huggingface.co" | "hf.co")
        )
        && url.port().is_none()
}

/// Whether a URL is under an endpoint.
pub fn is_below(url: &Url, endpoint: &Url) -> bool {
    let base = endpoint.path().trim_end_matches('/');
    url.origin() == endpoint.origin()
        && url
            .path()
            .strip_prefix(base)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// The URL to ask: a public hub's URL is moved to the configured hub (that is what mirrors are
/// for), and a file's page (`/blob/`) becomes the file. Also the path of the repository's page, for
/// messages.
pub fn to_ask(url: &Url, endpoint: &Url) -> (Url, Option<String>) {
    let base = endpoint.path().trim_end_matches('/');
    let path = if is_below(url, endpoint) {
        url.path().strip_prefix(base).unwrap_or_default()
    } else {
        url.path()
    };
    let mut segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let first = usize::from(matches!(segments.first(), Some(&"datasets" | &"spaces")));
    // Some old models have no owner.
    let marker = [first + 2, first + 1].into_iter().find(|&at| {
        matches!(segments.get(at), Some(&"resolve" | &"blob" | &"raw")) && segments.len() > at + 2
    });
    let mut page = None;
    if let Some(marker) = marker {
        if segments[marker] == "blob" {
            segments[marker] = "resolve";
        }
        page = Some(segments[..marker].join("/"));
    }
    let mut ask = endpoint.clone();
    ask.set_path(&format!("{base}/{}", segments.join("/")));
    ask.set_query(url.query());
    (ask, page)
}

/// The path of an upload in its repository, not encoded.
pub fn path_in_repository(target: &HfTarget, filename: &str) -> String {
    let directory = target.directory.trim_matches('/');
    if directory.is_empty() {
        filename.to_owned()
    } else {
        format!("{directory}/{filename}")
    }
}

/// `models` or `datasets`, as the API names them.
pub fn plural(target: &HfTarget) -> &'static str {
    match target.repo_type {
        HfRepoType::Model => "models",
        HfRepoType::Dataset => "datasets",
    }
}

/// The repository's page below the endpoint.
pub fn page(target: &HfTarget) -> String {
    match target.repo_type {
        HfRepoType::Model => target.repo.clone(),
        HfRepoType::Dataset => format!("datasets/{}", target.repo),
    }
}

/// A revision as one segment of a path.
pub fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// The URL under which an upload can be fetched.
pub fn url_of(endpoint: &Url, target: &HfTarget, filename: &str) -> String {
    let path: Vec<String> = path_in_repository(target, filename)
        .split('/')
        .map(encoded)
        .collect();
    format!(
        "{}/{}/resolve/{}/{}",
        endpoint.as_str().trim_end_matches('/'),
        page(target),
        encoded(&target.revision),
        path.join("/")
    )
}

/// Checks what ends up in paths of the API.
pub fn check_target(target: &HfTarget) -> Result<(), StorageError> {
    let name = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let invalid = |sentence: String| Err(StorageError::new(ErrorKind::Invalid, sentence));
    match target.repo.split_once('/') {
        Some((owner, repo)) if name(owner) && name(repo) => {}
        _ => {
            return invalid(format!(
                "\"{}\" is not a repository: write it like owner/name",
                target.repo
            ));
        }
    }
    if target.revision.is_empty() || target.revision.chars().any(char::is_control) {
        return invalid("the revision must name a branch".to_owned());
    }
    let directory = target.directory.trim_matches('/');
    let bad = |part: &str| {
        matches!(part, "" | "." | "..") || part == ".git" || part.chars().any(char::is_control)
    };
    if !directory.is_empty() && directory.split('/').any(bad) {
        return invalid(format!(
            "\"{}\" cannot be a directory of a repository",
            target.directory
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str, endpoint: &str) -> (String, Option<String>) {
        let (url, page) = to_ask(&Url::parse(url).unwrap(), &Url::parse(endpoint).unwrap());
        (url.to_string(), page)
    }

    #[test]
    fn pages_become_files_and_mirrors_are_used() {
        let hub = "https://huggingface.co";
        assert_eq!(
            ask("https://huggingface.co/o/r/blob/main/a%20b.bin", hub),
            (
                "https://huggingface.co/o/r/resolve/main/a%20b.bin".into(),
                Some("o/r".into())
            )
        );
        assert_eq!(
            ask("https://hf.co/gpt2/blob/main/x", hub).0,
            "https://huggingface.co/gpt2/resolve/main/x"
        );
        assert_eq!(
            ask(
                "https://huggingface.co/datasets/o/r/resolve/refs%2Fpr%2F1/d/x?download=true",
                "http://mirror:8080/hub"
            ),
            (
                "http://mirror:8080/hub/datasets/o/r/resolve/refs%2Fpr%2F1/d/x?download=true"
                    .into(),
                Some("datasets/o/r".into())
            )
        );
        assert_eq!(
            ask(
                "http://mirror:8080/hub/o/r/resolve/main/blob/x",
                "http://mirror:8080/hub"
            )
            .0,
            "http://mirror:8080/hub/o/r/resolve/main/blob/x"
        );
    }

    fn target(repo: &str, revision: &str, directory: &str) -> HfTarget {
        HfTarget {
            repo: repo.into(),
            repo_type: HfRepoType::Dataset,
            revision: revision.into(),
            directory: directory.into(),
        }
    }

    #[test]
    fn urls_of_uploads_are_encoded() {
        let hub = Url::parse("https://huggingface.co").unwrap();
        assert_eq!(
            url_of(&hub, &target("o/r", "refs/pr/1", "/a b/ü/"), "x#1.png"),
            "https://huggingface.co/datasets/o/r/resolve/refs%2Fpr%2F1/a%20b/%C3%BC/x%231.png"
        );
        assert_eq!(
            url_of(&hub, &target("o/r", "main", "/"), "x.png"),
            "https://huggingface.co/datasets/o/r/resolve/main/x.png"
        );
    }

    #[test]
    fn bad_targets_are_refused() {
        assert!(check_target(&target("o/r", "main", "")).is_ok());
        for bad in [
            target("r", "main", ""),
            target("o/r/x", "main", ""),
            target("o/..", "main", ""),
            target("o/r", "", ""),
            target("o/r", "main", "a/../b"),
        ] {
            assert!(check_target(&bad).is_err(), "{bad:?}");
        }
    }
}
