//! Git URLs with a pinned ref, in every way that people copy them from a browser (process.md, step
//! 4). Pure.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::config::public_url;

/// A repository and what of it is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct GitSource {
    /// What git clones; may hold credentials.
    pub url: String,
    /// The ref; `None` is the default branch.
    pub reference: Option<Reference>,
    /// The folder below `custom_nodes`.
    pub folder: String,
}

/// A pinned ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Branch, tag or commit.
    pub name: String,
    /// What the URL said about it.
    pub kind: ReferenceKind,
}

/// What a URL says about the ref that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// A branch, tag or commit, as after `@`.
    Any,
    /// As `Any`, but a path inside the repository may follow (`/tree/main/docs`): only the
    /// repository can tell where it begins.
    MaybeWithPath,
    /// A commit.
    Commit,
    /// A tag.
    Tag,
}

/// Path segments that separate repository and ref. GitLab's come first: `/-/tree/` contains
/// GitHub's `/tree/`.
const MARKERS: [(&[&str], ReferenceKind); 9] = [
    (&["-", "tree"], ReferenceKind::MaybeWithPath),
    (&["-", "commit"], ReferenceKind::Commit),
    (&["-", "commits"], ReferenceKind::MaybeWithPath),
    (&["-", "tags"], ReferenceKind::Tag),
    (&["tree"], ReferenceKind::MaybeWithPath),
    (&["commit"], ReferenceKind::Commit),
    (&["releases", "tag"], ReferenceKind::Tag),
    (&["src"], ReferenceKind::MaybeWithPath),
    (&["commits"], ReferenceKind::Commit),
];

impl GitSource {
    /// Whether a custom node is given by git URL (`scheme://...` or `user@host:path`), not by its
    /// registry name.
    pub fn is_git_url(text: &str) -> bool {
        text.contains("://") || scp_path(text).is_some()
    }

    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, to be put behind its place; shows no credentials.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path_start = path_start(text)
            .ok_or_else(|| format!("({}) names no repository", public_url(text)))?;
        let (origin, path) = text.split_at(path_start);
        let (path, reference) = split_path(path);
        let path = path.trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or_default();
        let folder = last.strip_suffix(".git").unwrap_or(last);
        if folder.is_empty() || folder.starts_with('.') {
            return Err(format!("({}) names no repository", public_url(text)));
        }
        if reference
            .as_ref()
            .is_some_and(|reference| !is_ref_name(&reference.name))
        {
            return Err(format!(
                "({}) pins a ref that git would not accept",
                public_url(text)
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            url: format!("{origin}{path}"),
            reference,
        })
    }

    /// The URL as it may be shown.
    pub fn public(&self) -> String {
        if scp_path(&self.url).is_some() {
            self.url.clone()
        } else {
            public_url(&self.url)
        }
    }
}

impl fmt::Debug for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitSource({}, {:?})", self.public(), self.reference)
    }
}

/// Where the path begins: behind the host, so that an `@` in the userinfo is no ref.
fn path_start(text: &str) -> Option<usize> {
    match text.find("://") {
        Some(scheme) => {
            let authority = scheme + 3;
            text.get(authority..)?
                .find('/')
                .map(|slash| authority + slash)
        }
        None => scp_path(text),
    }
}

/// Where the path begins in git's short form `user@host:path`.
fn scp_path(text: &str) -> Option<usize> {
    if text.contains("://") {
        return None;
    }
    let colon = text.find(':')?;
    let (host, _) = text.split_at(colon);
    (host.contains('@') && !host.contains('/')).then_some(colon + 1)
}

/// Splits a path into that of the repository and the ref.
fn split_path(path: &str) -> (&str, Option<Reference>) {
    // A query or fragment is the browser's (`?tab=readme`), never git's.
    let path = path
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .trim_end_matches('/');
    if let Some((repository, name, kind)) = split_at_marker(path) {
        let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
        return (repository, Some(Reference { name, kind }));
    }
    let pinned = path
        .split_once(".git@")
        .map(|(repository, name)| (path.get(..repository.len() + 4).unwrap_or(repository), name))
        .or_else(|| path.rsplit_once('@'));
    match pinned {
        Some((repository, name))
            if !repository.trim_matches('/').is_empty() && !name.is_empty() =>
        {
            (
                repository,
                Some(Reference {
                    name: percent_decode_str(name).decode_utf8_lossy().into_owned(),
                    kind: ReferenceKind::Any,
                }),
            )
        }
        _ => (path, None),
    }
}

/// Finds the first marker behind at least one segment of repository and before at least one of ref.
fn split_at_marker(path: &str) -> Option<(&str, &str, ReferenceKind)> {
    let mut segments = Vec::new();
    let mut offset = 0;
    for segment in path.split('/') {
        segments.push((offset, segment));
        offset += segment.len() + 1;
    }
    // The first segment of a URL's path is the empty one before its first slash.
    let first = if path.starts_with('/') { 2 } else { 1 };
    (first..segments.len()).find_map(|index| {
        MARKERS.iter().find_map(|(words, kind)| {
            let found = segments.get(index..index + words.len())?;
            let begin = segments.get(index + words.len())?.0;
            let same = found.iter().map(|(_, segment)| segment).eq(words.iter());
            let repository = path.get(..segments.get(index)?.0.checked_sub(1)?)?;
            let name = path.get(begin..)?;
            // `.../repo@v1/...` is no repository of that name: the ref begins at the `@`.
            (same && !name.is_empty() && !repository.contains('@'))
                .then_some((repository, name, *kind))
        })
    })
}

/// What git accepts as a ref and no option: no blanks, no `..`, no leading dash.
fn is_ref_name(name: &str) -> bool {
    !name.starts_with('-')
        && !name.contains("..")
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReferenceKind::{Any, Commit, MaybeWithPath, Tag};

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn every_way_to_pin_a_ref() {
        let plain = "https://github.com/u/repo";
        for (text, url, reference) in [
            ("https://github.com/u/repo", plain, None),
            ("https://github.com/u/repo/", plain, None),
            (
                "https://github.com/u/repo.git",
                "https://github.com/u/repo.git",
                None,
            ),
            (
                "https://github.com/u/repo?tab=readme-ov-file#x",
                plain,
                None,
            ),
            (
                "https://github.com/u/repo/tree/main",
                plain,
                Some(("main", MaybeWithPath)),
            ),
            (
                "https://github.com/u/repo/tree/feature/with/slash",
                plain,
                Some(("feature/with/slash", MaybeWithPath)),
            ),
            (
                "https://github.com/u/repo/tree/feature%2Fx/",
                plain,
                Some(("feature/x", MaybeWithPath)),
            ),
            (
                "https://github.com/u/repo/tree/a@b",
                plain,
                Some(("a@b", MaybeWithPath)),
            ),
            (
                "https://github.com/u/repo/commit/204f6d5a",
                plain,
                Some(("204f6d5a", Commit)),
            ),
            (
                "https://github.com/u/repo/releases/tag/v1.0",
                plain,
                Some(("v1.0", Tag)),
            ),
            (
                "https://gitlab.com/g/sub/repo/-/tree/dev/x",
                "https://gitlab.com/g/sub/repo",
                Some(("dev/x", MaybeWithPath)),
            ),
            (
                "https://gitlab.com/g/repo/-/tree/main?ref_type=heads",
                "https://gitlab.com/g/repo",
                Some(("main", MaybeWithPath)),
            ),
            (
                "https://gitlab.com/g/repo/-/commit/abc",
                "https://gitlab.com/g/repo",
                Some(("abc", Commit)),
            ),
            (
                "https://gitlab.com/g/repo/-/tags/v2",
                "https://gitlab.com/g/repo",
                Some(("v2", Tag)),
            ),
            (
                "https://bitbucket.org/w/repo/src/main/docs/",
                "https://bitbucket.org/w/repo",
                Some(("main/docs", MaybeWithPath)),
            ),
            (
                "https://bitbucket.org/w/repo/commits/abc",
                "https://bitbucket.org/w/repo",
                Some(("abc", Commit)),
            ),
            (
                "https://github.com/u/repo@v1.0.0",
                plain,
                Some(("v1.0.0", Any)),
            ),
            (
                "https://github.com/u/repo@feature/x",
                plain,
                Some(("feature/x", Any)),
            ),
            (
                "https://github.com/u/repo@feature/tree/x",
                plain,
                Some(("feature/tree/x", Any)),
            ),
            (
                "https://github.com/u/repo.git@v1",
                "https://github.com/u/repo.git",
                Some(("v1", Any)),
            ),
            (
                "https://github.com/u/repo.git@pkg@1.0",
                "https://github.com/u/repo.git",
                Some(("pkg@1.0", Any)),
            ),
            (
                "https://me:tok@github.com/u/repo",
                "https://me:tok@github.com/u/repo",
                None,
            ),
            (
                "https://tok@github.com/u/repo@v1",
                "https://tok@github.com/u/repo",
                Some(("v1", Any)),
            ),
            ("git@github.com:u/repo", "git@github.com:u/repo", None),
            (
                "git@github.com:u/repo.git",
                "git@github.com:u/repo.git",
                None,
            ),
            (
                "git@github.com:u/repo.git@v1",
                "git@github.com:u/repo.git",
                Some(("v1", Any)),
            ),
            ("git@github.com:repo", "git@github.com:repo", None),
            (
                "ssh://git@h.example:22/u/repo.git@dev",
                "ssh://git@h.example:22/u/repo.git",
                Some(("dev", Any)),
            ),
            (
                "http://127.0.0.1:9/repo.git/tree/x",
                "http://127.0.0.1:9/repo.git",
                Some(("x", MaybeWithPath)),
            ),
            (
                "https://github.com/tree/repo",
                "https://github.com/tree/repo",
                None,
            ),
            (
                "https://github.com/u/tree",
                "https://github.com/u/tree",
                None,
            ),
        ] {
            let source = GitSource::parse(text).unwrap();
            let found = source
                .reference
                .as_ref()
                .map(|reference| (reference.name.as_str(), reference.kind));
            assert_eq!((source.url.as_str(), found), (url, reference), "{text}");
            assert_eq!(
                source.folder,
                if text.ends_with("/tree") {
                    "tree"
                } else {
                    "repo"
                },
                "{text}"
            );
            assert!(GitSource::is_git_url(text));
        }
    }

    #[test]
    fn names_are_no_urls_and_nonsense_is_refused_without_showing_credentials() {
        for name in ["comfyui-kjnodes", "node@1.2.3", "a:b", "dir/x@y:z"] {
            assert!(!GitSource::is_git_url(name), "{name}");
        }
        for text in [
            "https://u:marked@h.example",
            "https://u:marked@h.example/",
            "https://u:marked@h.example/u/..",
            "https://u:marked@h.example/u/r@--upload-pack",
            "https://u:marked@h.example/u/r@a..b",
        ] {
            let why = GitSource::parse(text).unwrap_err();
            assert!(!why.contains("marked"), "{why}");
        }
        assert!(
            !format!("{:?}", GitSource::parse("https://u:marked@h.example/a/b")).contains("marked")
        );
    }
}
