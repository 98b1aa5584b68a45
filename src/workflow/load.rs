//! Files are read, and read again when they have changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::engine::Library;
use super::registry::FileLoad;
use super::{Inner, files};

/// How often a watched directory is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) async fn load(&self, read_files: bool) {
        let mut last = self.loading.lock().await;
        let context = self.context_json().await;
        let dir = self.config.dir.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            dir.canonicalize()
                .ok()
                .map(|root| (files::scan(&root), root))
        })
        .await;
        let (found, root) = scanned
            .ok()
            .flatten()
            .unwrap_or_else(|| (Vec::new(), self.config.dir.clone()));
        let library = match &*last {
            Some(library) if !read_files => Arc::clone(library),
            _ => Arc::new(Library::new(root)),
        };
        *last = Some(Arc::clone(&library));
        let opening = FileLoad {
            library,
            context,
            scheduler: &self.scheduler,
            pool: &self.pool,
            classes: self.source.node_classes(),
            markdown: self.config.markdown_descriptions,
        };
        let registry = opening.all(found).await;
        tracing::info!(
            workflows = registry.endpoints.len(),
            failed = registry.failed.len(),
            directory = %self.config.dir.display(),
            "workflow files loaded"
        );
        let numbers: Vec<u64> = registry
            .workflows
            .values()
            .filter_map(|workflow| workflow.script().map(|script| script.number))
            .collect();
        *self.registry.write() = Arc::new(registry);
        self.pool.retain(|(number, _)| numbers.contains(&number));
        self.changed.send_modify(|version| *version += 1);
    }
}

pub(super) async fn directory_state(dir: &Path) -> files::Signature {
    let dir = dir.to_path_buf();
    tokio::task::spawn_blocking(move || files::signature(&dir))
        .await
        .unwrap_or_default()
}

/// Looks at the directory until nobody holds the workflows any more.
pub(super) async fn watch(inner: Weak<Inner>, dir: PathBuf, mut seen: files::Signature) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = directory_state(&dir).await;
        let Some(inner) = inner.upgrade() else { return };
        if now != seen {
            seen = now;
            tracing::info!(directory = %dir.display(), "workflow files have changed");
            inner.load(true).await;
        }
    }
}
