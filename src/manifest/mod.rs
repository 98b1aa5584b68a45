//! What is installed before ComfyUI starts: Debian packages, Python packages, custom nodes, models
//! (process.md, step 4).
//!
//! [`Manifest::load`] parses strictly and completely: every problem at once, each with its place.
//! [`Installer`] carries it out in a fixed order: `apt`, `pip`, `custom_nodes`,
//! `models.before_start`; later, in the background, `models.after_start`.
//!
//! **A second start does nothing.** What was done is written to
//! `COMFY_HOME/.comfyui-api-manifest.json` (`CACHE_DIR` when there is no `COMFY_HOME`), by content,
//! together with a look at what the steps changed: dpkg's database and the installed
//! Python packages. A new container on an old volume lacks those packages, which the look shows,
//! and the steps run again; a new image that brings its own record with it skips them. No tool is
//! asked at all when nothing has to be done. Clones are compared by the commit that is checked out;
//! only a branch (or no ref at all) may have moved and is fetched again. Of `apt`, of `pip` and of
//! each clone's requirements only the last list counts as done: going back to an earlier one
//! installs that again.

mod document;
mod git_url;
mod installer;
mod models;
mod nodes;
mod python;
mod record;
mod shown;
mod tool;

pub use document::{CustomNode, Manifest, Model};
pub use git_url::{GitSource, Reference, ReferenceKind};
pub use installer::Installer;
pub use models::OnPlaced;

/// Why the manifest could not be read or carried out. The text is free of credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}{}", shown::last_lines(.last_lines))]
pub struct ManifestError {
    /// One sentence: which step, what happened.
    pub message: String,
    /// The last lines that the failed command printed; empty if no command failed.
    pub last_lines: Vec<String>,
}

impl ManifestError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            last_lines: Vec::new(),
        }
    }
}
