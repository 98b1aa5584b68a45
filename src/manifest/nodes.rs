//! Custom nodes: from ComfyUI's registry by its command-line tool, or cloned by git.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ManifestError;
use super::git_url::{GitSource, Reference, ReferenceKind};
use super::record::{Record, Step};
use super::tool::Tools;

/// What is remembered of a clone.
#[derive(Debug, Serialize, Deserialize)]
struct Cloned {
    /// The commit that was checked out.
    head: String,
    /// It was named by a branch, which may move.
    moving: bool,
}

/// Installs a node by its registry name, unless that was done and its folders are still there.
pub(super) async fn install_from_registry(
    name: &str,
    nodes: &Path,
    tools: &Tools,
    record: &mut Record,
) -> Result<(), ManifestError> {
    let content = [name];
    if let Some(made) = record.of::<BTreeSet<String>>(Step::Node, &content)
        && made.iter().all(|folder| nodes.join(folder).exists())
    {
        tracing::debug!(node = name, "custom node is installed already");
        return Ok(());
    }
    let step = format!("custom_nodes: comfy node install {name}");
    let comfy = tools.find("comfy").ok_or_else(|| {
        ManifestError::new(format!(
            "manifest: custom_nodes: {name} is a registry name, which needs the comfy command \
             (pip install comfy-cli), and that is not on PATH; or give the node's git URL"
        ))
    })?;
    let before = entries(nodes).await;
    record.forget(Step::Node, &content);
    // As the Node server did; without the last word comfy ends with success whatever happens.
    tools
        .run(
            &step,
            &comfy,
            &["node", "install", name, "--fast-deps", "--exit-on-fail"],
            None,
        )
        .await?;
    let made: BTreeSet<String> = entries(nodes).await.difference(&before).cloned().collect();
    record.put(Step::Node, &content, made).await;
    Ok(())
}

async fn entries(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Ok(mut entries) = tokio::fs::read_dir(folder).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

/// A clone below `custom_nodes`.
pub(super) struct Clone<'a> {
    source: &'a GitSource,
    folder: PathBuf,
    git: PathBuf,
    tools: &'a Tools,
    step: String,
}

impl<'a> Clone<'a> {
    pub fn new(
        source: &'a GitSource,
        nodes: &Path,
        tools: &'a Tools,
    ) -> Result<Self, ManifestError> {
        let step = format!("custom_nodes: {}", source.public());
        Ok(Self {
            folder: nodes.join(&source.folder),
            git: tools.require("git", &step)?,
            tools,
            source,
            step,
        })
    }

    /// Clones, or fetches and checks out, as far as needed. Returns the folder.
    pub async fn bring(&self, record: &mut Record) -> Result<&Path, ManifestError> {
        let name = self
            .source
            .reference
            .as_ref()
            .map_or("", |reference| reference.name.as_str());
        let content = [self.source.url.as_str(), name];
        let exists = tokio::fs::symlink_metadata(&self.folder).await.is_ok();
        if exists && !self.folder.join(".git").exists() {
            return Err(self.error(format!(
                "{} is there already and is not a git clone: move it away, or take the node out \
                 of the manifest",
                self.folder.display()
            )));
        }
        let before = if exists { self.head().await } else { None };
        let known = record
            .of::<Cloned>(Step::Clone, &content)
            .filter(|known| before.as_ref() == Some(&known.head));
        if known.as_ref().is_some_and(|known| !known.moving)
            || self.is_at_wanted_commit(before.as_deref())
        {
            tracing::debug!(
                url = self.source.public(),
                "custom node is checked out already"
            );
            return Ok(&self.folder);
        }
        let cloned = if exists {
            match self.fetch().await {
                // What is there worked at the last start; a git server that is down now is no
                // reason not to start.
                Err(error) if known.is_some() => {
                    tracing::warn!(
                        url = self.source.public(),
                        %error,
                        "the custom node cannot be updated; what is there is used"
                    );
                    return Ok(&self.folder);
                }
                fetched => fetched?,
            }
            let cloned = self.resolve().await?;
            if before.as_ref() != Some(&cloned.head) {
                self.move_to(&cloned.head).await?;
            }
            cloned
        } else {
            self.make().await?
        };
        record.put(Step::Clone, &content, cloned).await;
        Ok(&self.folder)
    }

    fn is_at_wanted_commit(&self, head: Option<&str>) -> bool {
        let wanted = self
            .source
            .reference
            .as_ref()
            .map(|reference| reference.name.as_str());
        wanted.is_some_and(|wanted| is_full_hash(wanted) && head == Some(wanted))
    }

    /// Clones and checks out beside the final name, then renames: a clone that was cut off is never
    /// taken for a whole one.
    async fn make(&self) -> Result<Cloned, ManifestError> {
        let on_disk = |error: std::io::Error| {
            self.error(format!(
                "{} cannot be made ({error})",
                self.folder.display()
            ))
        };
        if let Some(nodes) = self.folder.parent() {
            tokio::fs::create_dir_all(nodes).await.map_err(on_disk)?;
        }
        let folder = self
            .folder
            .with_file_name(format!(".{}.partial", self.source.folder));
        let _ = tokio::fs::remove_dir_all(&folder).await;
        let partial = Clone {
            source: self.source,
            folder,
            git: self.git.clone(),
            tools: self.tools,
            step: self.step.clone(),
        };
        let cloned = match partial.fill().await {
            Ok(cloned) => tokio::fs::rename(&partial.folder, &self.folder)
                .await
                .map(|()| cloned)
                .map_err(on_disk),
            Err(error) => Err(error),
        };
        if cloned.is_err() {
            let _ = tokio::fs::remove_dir_all(&partial.folder).await;
        }
        cloned
    }

    async fn fill(&self) -> Result<Cloned, ManifestError> {
        let arguments = [
            "clone".as_ref(),
            "--no-checkout".as_ref(),
            "--".as_ref(),
            self.source.url.as_ref(),
            self.folder.as_os_str(),
        ];
        self.tools
            .run(&self.step, &self.git, &arguments, None)
            .await?;
        let cloned = self.resolve().await?;
        if self.source.reference.is_none() {
            // On its branch, so that ComfyUI-Manager can update it.
            self.git(&["checkout", "--quiet"]).await?;
        } else {
            self.git(&["checkout", "--quiet", "--detach", &cloned.head])
                .await?;
        }
        self.submodules().await?;
        Ok(cloned)
    }

    async fn fetch(&self) -> Result<(), ManifestError> {
        // The repository may have moved, or the token in the URL may be a new one.
        self.git(&["config", "remote.origin.url", &self.source.url])
            .await?;
        self.git(&[
            "fetch",
            "--tags",
            "--force",
            "--prune",
            "origin",
            "+refs/heads/*:refs/remotes/origin/*",
        ])
        .await?;
        if self.source.reference.is_none() {
            // The default branch may be another one by now. Fails on servers that do not tell; then
            // the old one stays.
            self.ask(&["remote", "set-head", "origin", "--auto"]).await;
        }
        Ok(())
    }

    /// The commit that is wanted, and whether its name may move.
    async fn resolve(&self) -> Result<Cloned, ManifestError> {
        let Some(reference) = &self.source.reference else {
            let head = self.commit("refs/remotes/origin/HEAD").await;
            return head
                .map(|head| Cloned { head, moving: true })
                .ok_or_else(|| self.error("the repository has no default branch".into()));
        };
        for name in candidates(reference) {
            if let Some((head, moving)) = self.look_up(name, reference.kind).await {
                return Ok(Cloned { head, moving });
            }
        }
        // A commit that no branch or tag leads to (a pull request's) must be asked for by its full
        // hash.
        if is_full_hash(&reference.name)
            && self
                .git(&["fetch", "origin", &reference.name])
                .await
                .is_ok()
            && let Some(head) = self.commit(&reference.name).await
        {
            return Ok(Cloned {
                head,
                moving: false,
            });
        }
        Err(self.error(format!(
            "the repository has no branch, tag or commit {}",
            reference.name
        )))
    }

    async fn look_up(&self, name: &str, kind: ReferenceKind) -> Option<(String, bool)> {
        let branch = (format!("refs/remotes/origin/{name}"), true);
        let tag = (format!("refs/tags/{name}"), false);
        let commit = (name.to_owned(), false);
        let is_hash = name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let order = match kind {
            ReferenceKind::Tag => vec![tag, branch],
            ReferenceKind::Commit => vec![commit, tag, branch],
            ReferenceKind::Any | ReferenceKind::MaybeWithPath if is_hash => {
                vec![branch, tag, commit]
            }
            ReferenceKind::Any | ReferenceKind::MaybeWithPath => vec![branch, tag],
        };
        for (name, moving) in order {
            if let Some(commit) = self.commit(&name).await {
                return Some((commit, moving));
            }
        }
        None
    }

    /// Checks another commit out in a clone that was there before.
    async fn move_to(&self, commit: &str) -> Result<(), ManifestError> {
        if self.source.reference.is_none()
            && self
                .ask(&["symbolic-ref", "--quiet", "HEAD"])
                .await
                .is_some()
        {
            self.ask(&["merge", "--ff-only", "--quiet", commit]).await;
        }
        if self.head().await.as_deref() != Some(commit) {
            self.git(&["checkout", "--quiet", "--detach", commit])
                .await?;
        }
        self.submodules().await
    }

    async fn submodules(&self) -> Result<(), ManifestError> {
        if self.folder.join(".gitmodules").exists() {
            self.git(&["submodule", "update", "--init", "--recursive"])
                .await
        } else {
            Ok(())
        }
    }

    async fn head(&self) -> Option<String> {
        self.commit("HEAD").await
    }

    async fn commit(&self, name: &str) -> Option<String> {
        self.ask(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ])
        .await
        .filter(|commit| is_full_hash(commit))
    }

    async fn git(&self, arguments: &[&str]) -> Result<(), ManifestError> {
        let step = format!("{}: git {}", self.step, arguments.first().unwrap_or(&""));
        self.tools
            .run(&step, &self.git, &safe(arguments), Some(&self.folder))
            .await
    }

    async fn ask(&self, arguments: &[&str]) -> Option<String> {
        self.tools
            .ask(&self.git, &safe(arguments), &self.folder)
            .await
    }

    fn error(&self, what: String) -> ManifestError {
        ManifestError::new(format!("manifest: {}: {what}", self.step))
    }
}

/// A volume often belongs to another user than the container's, and git would refuse to touch a
/// clone there.
fn safe<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    ["-c", "safe.directory=*", "-c", "advice.detachedHead=false"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect()
}

/// The names to try: the whole text and, where a path may follow the ref, ever shorter beginnings
/// of it.
fn candidates(reference: &Reference) -> Vec<&str> {
    let mut names = vec![reference.name.as_str()];
    if reference.kind == ReferenceKind::MaybeWithPath {
        names.extend(
            reference
                .name
                .rmatch_indices('/')
                .filter_map(|(at, _)| reference.name.get(..at)),
        );
    }
    names
}

fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of a node's `requirements.txt`, if it has one.
pub(super) async fn requirements(folder: &Path) -> Option<String> {
    let text = tokio::fs::read(folder.join("requirements.txt"))
        .await
        .ok()?;
    Some(hex::encode(Sha256::digest(&text)))
}
