//! What was done at an earlier start, and whether it is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::paths;

/// dpkg's list of what is installed.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// The record of earlier starts. Contents of the manifest are only in it as hashes: they may hold
/// credentials.
#[derive(Debug)]
pub(super) struct Record {
    file: PathBuf,
    python: PythonEnvironment,
    done: Done,
}

/// Where Python packages may be.
#[derive(Debug, Clone, Default)]
pub(super) struct PythonEnvironment {
    /// Directories with a `lib/python3*/site-packages`.
    pub prefixes: BTreeSet<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Done {
    /// Hash of dpkg's database after the last step.
    dpkg: String,
    /// The Python packages after the last step.
    packages: BTreeSet<String>,
    /// Step -> what is to be remembered of it.
    steps: BTreeMap<String, serde_json::Value>,
}

/// The kinds of steps, by what must still be there for them to count as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Debian packages.
    Apt,
    /// Python packages.
    Pip,
    /// A custom node from the registry; its Python packages too.
    Node,
    /// A clone.
    Clone,
    /// The Python packages of a clone; its content begins with the folder.
    Requirements,
}

impl Step {
    const fn word(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Pip => "pip",
            Self::Node => "node",
            Self::Clone => "clone",
            Self::Requirements => "requirements",
        }
    }
}

impl Record {
    /// Reads the record and forgets what is no longer true. A record that cannot be read is an
    /// empty one.
    pub async fn open(file: PathBuf, python: PythonEnvironment) -> Self {
        let mut done: Done = match tokio::fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Done::default(),
        };
        let (dpkg, packages) = look(python.clone()).await;
        let python_is_there = done.packages.is_subset(&packages);
        let debian_is_there = done.dpkg == dpkg;
        done.steps.retain(|key, _| {
            let is = |step: Step| key.split(':').next() == Some(step.word());
            (debian_is_there || !is(Step::Apt))
                && (python_is_there || !(is(Step::Pip) || is(Step::Node) || is(Step::Requirements)))
        });
        Self { file, python, done }
    }

    /// What is remembered of a step that was done with exactly this content.
    pub fn of<T: for<'de> Deserialize<'de>>(&self, step: Step, content: &[&str]) -> Option<T> {
        self.done
            .steps
            .get(&key(step, content))
            .and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// Remembers a step in place of those that it may have undone, and writes the record. That it
    /// cannot be written costs time at the next start, no more.
    pub async fn put(&mut self, step: Step, content: &[&str], value: impl Serialize) {
        if let Some(start) = replaced(step, content) {
            self.done.steps.retain(|key, _| !key.starts_with(&start));
        }
        self.done.steps.insert(
            key(step, content),
            serde_json::to_value(value).unwrap_or_default(),
        );
        self.save().await;
    }

    /// Forgets a step that is about to be done again.
    pub fn forget(&mut self, step: Step, content: &[&str]) {
        self.done.steps.remove(&key(step, content));
    }

    /// Writes the record with a fresh look at what is installed.
    pub async fn save(&mut self) {
        (self.done.dpkg, self.done.packages) = look(self.python.clone()).await;
        if let Err(error) = write(&self.file, &self.done).await {
            tracing::warn!(
                file = %self.file.display(),
                %error,
                "what the manifest installed cannot be recorded, so the next start will do it again"
            );
        }
    }
}

async fn write(file: &Path, done: &Done) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let (file, record) = (file.to_owned(), serde_json::to_vec_pretty(done)?);
    let writing = tokio::task::spawn_blocking(move || paths::replace(&file, record));
    writing.await.map_err(std::io::Error::other)?
}

fn key(step: Step, content: &[&str]) -> String {
    let start = replaced(step, content).unwrap_or_else(|| format!("{}:", step.word()));
    format!("{start}{}", digest(content))
}

/// How the keys begin of what a step may undo: a later list may have changed the versions that an
/// earlier one asked for, so the earlier one is work again. Each folder's requirements stand for
/// themselves, as they do beside the manifest's own list.
fn replaced(step: Step, content: &[&str]) -> Option<String> {
    match step {
        Step::Apt | Step::Pip => Some(format!("{}:", step.word())),
        Step::Requirements => content
            .get(..1)
            .map(|folder| format!("{}:{}:", step.word(), digest(folder))),
        Step::Node | Step::Clone => None,
    }
}

fn digest(content: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in content {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// dpkg's database as a hash, and the installed Python packages by the names of their metadata
/// folders (name and version).
async fn look(python: PythonEnvironment) -> (String, BTreeSet<String>) {
    tokio::task::spawn_blocking(move || {
        let dpkg = std::fs::read(DPKG_STATUS)
            .map(|status| hex::encode(Sha256::digest(&status)))
            .unwrap_or_default();
        (dpkg, python.packages())
    })
    .await
    .unwrap_or_default()
}

impl PythonEnvironment {
    fn packages(&self) -> BTreeSet<String> {
        let folders = |folder: PathBuf| {
            std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
        };
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let mut packages = BTreeSet::new();
        for prefix in &self.prefixes {
            for library in
                folders(prefix.join("lib")).filter(|path| name(path).starts_with("python3"))
            {
                for kind in ["site-packages", "dist-packages"] {
                    packages.extend(
                        folders(library.join(kind))
                            .filter(|path| path.extension().is_some_and(|e| e == "dist-info"))
                            .map(|path| name(&path)),
                    );
                }
            }
        }
        packages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_list_takes_the_place_of_an_earlier_one_of_its_own_kind_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::open(
            folder.path().join("record.json"),
            PythonEnvironment::default(),
        )
        .await;
        let first: [(Step, &[&str]); 6] = [
            (Step::Apt, &["a=1"]),
            (Step::Pip, &["p==1"]),
            (Step::Requirements, &["one", "1"]),
            (Step::Requirements, &["two", "1"]),
            (Step::Node, &["n"]),
            (Step::Clone, &["url", "v1"]),
        ];
        let later: [(Step, &[&str]); 3] = [
            (Step::Apt, &["a=2"]),
            (Step::Pip, &["p==2"]),
            (Step::Requirements, &["one", "2"]),
        ];
        for (step, content) in first.iter().chain(&later) {
            record.put(*step, content, ()).await;
        }
        let record = Record::open(
            folder.path().join("record.json"),
            PythonEnvironment::default(),
        )
        .await;
        let known = |steps: &[(Step, &[&str])]| {
            steps
                .iter()
                .map(|(step, content)| record.of::<()>(*step, content).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(known(&first), [false, false, false, true, true, true]);
        assert_eq!(known(&later), [true, true, true]);
    }
}
