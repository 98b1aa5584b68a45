//! Stores outputs one after the other, while the run goes on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::find::{Found, find, kind};
use super::hand_over::hand_over;
use super::{MAX_TEXT, Order, Place};
use crate::job::event::JobEvent;
use crate::job::origin::Origin;
use crate::job::outputs::{self, Elsewhere, OutputFile};
use crate::job::registry::Job;
use crate::job::service::Inner;
use crate::media;
use crate::store::assets::NewOutput;
use crate::store::{AssetRecord, StoreError};

/// Works off the orders of one job.
pub(super) struct Worker {
    pub(super) inner: Arc<Inner>,
    pub(super) origin: Option<Arc<dyn Origin>>,
    pub(super) job: std::sync::Weak<Job>,
    pub(super) id: Arc<str>,
    /// The id as file names hold it.
    pub(super) file_id: Arc<str>,
    /// Files and texts that are kept already, by node and where they were reported.
    pub(super) seen: HashSet<(String, String)>,
    pub(super) names: HashSet<String>,
    /// Committed files: where they were, and their records. One may be known by two places.
    pub(super) kept: Vec<(PathBuf, AssetRecord)>,
    /// How many outputs there are.
    pub(super) count: i64,
}

impl Worker {
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Node {
                    node,
                    output,
                    place,
                } => self.node(&node, &output, &place).await,
                Order::Results { files, place, done } => {
                    let _ = done.send(self.results(files, &place).await);
                }
                Order::Tell(listener) => drop(listener),
                Order::Withdraw => {
                    self.seen.clear();
                    self.names.clear();
                    self.kept.clear();
                    self.count = 0;
                    match &self.origin {
                        Some(origin) => origin.tell("outputs_withdrawn", Value::Null),
                        None => drop(self.inner.store.withdraw_outputs(&self.id).await),
                    }
                    self.tell(&JobEvent::Withdrawn);
                }
            }
        }
    }

    pub(super) fn tell(&self, event: &JobEvent) {
        if let Some(job) = self.job.upgrade() {
            job.tell(event);
        }
    }

    pub(super) async fn node(&mut self, node: &str, output: &Value, place: &Place) {
        let mut found = Vec::new();
        find(output, place, &mut found);
        for (number, one) in found.into_iter().enumerate() {
            let kept = match one {
                Found::File { temp: false, .. } if place.results_differ => continue,
                Found::File { path, temp } => {
                    let new = self
                        .seen
                        .insert((node.to_owned(), path.display().to_string()));
                    if !new || self.was_kept(&path).is_some() {
                        continue;
                    }
                    let kept = if temp && !path.exists() {
                        let Some(file) = fetched(node, &path, place).await else {
                            continue;
                        };
                        self.file(node, &file.path, Some(&file.filename), true)
                            .await
                    } else {
                        self.file(node, &path, None, false).await
                    };
                    // By which the result knows it.
                    kept.map(|asset| self.kept.push((path, asset)))
                }
                Found::Text(text) => self.text(node, number, text).await,
            };
            if let Err(error) = kept {
                tracing::warn!(id = %self.id, node, %error, "an output is not kept");
            }
        }
    }

    fn was_kept(&self, path: &Path) -> Option<&AssetRecord> {
        let mut kept = self.kept.iter().filter(|_| !path.as_os_str().is_empty());
        kept.find(|(known, _)| known == path)
            .map(|(_, asset)| asset)
    }

    pub(super) async fn text(
        &mut self,
        node: &str,
        number: usize,
        text: String,
    ) -> Result<(), StoreError> {
        // An origin reads texts where nodes report them.
        if self.origin.is_some()
            || text.len() > MAX_TEXT
            || !self
                .seen
                .insert((node.to_owned(), format!("text {number}")))
        {
            return Ok(());
        }
        let name = self.unique(&format!("{}_{node}_{number}.txt", self.file_id));
        let new = self.new_output(node, name, "text", "text/plain; charset=utf-8".to_owned());
        let asset = self.inner.store.commit_text(text, new).await?;
        self.kept.push((PathBuf::new(), asset.clone()));
        self.tell(&JobEvent::Output(asset));
        Ok(())
    }

    async fn file(
        &mut self,
        node: &str,
        path: &Path,
        name: Option<&str>,
        ours: bool,
    ) -> Result<AssetRecord, StoreError> {
        let base = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let own = ours || base.starts_with(&*self.file_id);
        let wanted = name.map_or(base, str::to_owned);
        // A name that is not ours alone would be the same in another job.
        let wanted = if wanted.starts_with(&*self.file_id) {
            wanted
        } else {
            format!("{}_{wanted}", self.file_id)
        };
        let name = self.unique(&wanted);
        let from = path.to_path_buf();
        let mut new = self.new_output(node, name, "file", String::new());
        let looked_at = move || {
            let head = media::head(&from)?;
            new.content_type = media::content_type(&new.name, &head);
            new.kind = kind(&new.name, &new.content_type);
            Ok(new)
        };
        let asset = match self.origin.clone() {
            Some(origin) => {
                let new = tokio::task::spawn_blocking(looked_at).await;
                let new = new.map_err(|error| StoreError::Failed(error.to_string()))??;
                hand_over(&*origin, path, new, &self.job).await?
            }
            None => self.inner.store.commit_output(path, own, looked_at).await?,
        };
        self.kept.push((path.to_path_buf(), asset.clone()));
        self.tell(&JobEvent::Output(asset.clone()));
        Ok(asset)
    }

    async fn results(
        &mut self,
        files: Vec<OutputFile>,
        _place: &Place,
    ) -> Result<Vec<AssetRecord>, StoreError> {
        let mut assets = Vec::with_capacity(files.len());
        for file in files {
            if let Some(known) = self.was_kept(&file.written_to) {
                assets.push(known.clone());
                continue;
            }
            let node = file.node_id.clone().unwrap_or_default();
            // What was made of outputs is nobody else's.
            let ours = file.written_to.as_os_str().is_empty();
            let kept = self.file(&node, &file.path, Some(&file.filename), ours);
            let asset = kept.await?;
            // One that is told of before the result is known by that.
            if !ours {
                self.kept.push((file.written_to.clone(), asset.clone()));
            }
            assets.push(asset);
        }
        Ok(assets)
    }

    fn new_output(
        &mut self,
        node: &str,
        name: String,
        kind: &'static str,
        content_type: String,
    ) -> NewOutput {
        self.count += 1;
        NewOutput {
            job_id: self.id.to_string(),
            node_id: node.to_owned(),
            name,
            kind,
            content_type,
            position: self.count - 1,
            remote_url: None,
        }
    }

    fn unique(&mut self, wanted: &str) -> String {
        if self.names.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let (stem, extension) = wanted.rsplit_once('.').unwrap_or((wanted, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        let mut number = 2_u64;
        loop {
            let name = format!("{stem}_{number}{dot}{extension}");
            if self.names.insert(name.clone()) {
                return name;
            }
            number += 1;
        }
    }
}

/// A preview of a ComfyUI whose temporary files are not on this machine.
async fn fetched(node: &str, path: &Path, place: &Place) -> Option<OutputFile> {
    let (client, cleanup) = place.asked.as_ref()?;
    let file = Elsewhere::below(&place.temp_dir, node.to_owned(), "images".to_owned(), path);
    match outputs::view(client, file, cleanup).await {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::debug!(node, error, "a preview cannot be fetched");
            None
        }
    }
}
