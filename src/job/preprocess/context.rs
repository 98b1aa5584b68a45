//! What the tasks of one job share.

use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

use super::task::{Done, InputTask, Work};
use super::workspace::Workspace;
use super::{PrepareContext, directory, media, models};
use crate::config::public_url;
use crate::error::{Code, Failure, panicked};
use crate::job::event::JobEvent;
use crate::job::origin::Origin;
use crate::job::registry::Job;
use crate::job::request::{PromptRequest, url_text};
use crate::job::stream::Weight;
use crate::storage::downloads::Purpose;
use crate::storage::{ErrorKind, Fetch, Fetched, Progress, StorageError};

pub(super) struct Context<'a> {
    pub(super) around: &'a PrepareContext<'a>,
    pub(super) request: &'a PromptRequest,
    pub(super) job: &'a Job,
    pub(super) stop: tokio_util::sync::CancellationToken,
    pub(super) workspace: &'a Workspace,
    pub(super) layout: directory::DirectoryLayout,
}

impl Context<'_> {
    pub(super) async fn run(&self, task: &InputTask) -> Result<(usize, Done), Failure> {
        let done = match &task.work {
            Work::Media => media::place(self, task).await,
            Work::Directory => directory::place(self, task).await,
            Work::Folder => directory::place_folder(self, task).await,
            Work::Model(model) => models::place(self, task, model).await,
            Work::Repository => models::clone(self, task).await,
        };
        done.map(|done| (task.index, done)).map_err(|failure| {
            if failure.location.is_some() {
                failure
            } else {
                failure.at(task.location())
            }
        })
    }

    /// Fetches a URL for a folder with the request's credentials; progress goes to the prompt's
    /// streams.
    pub(super) async fn fetch(&self, url: &str, folder: &str) -> Result<Fetched, Failure> {
        url_text(url, "").map_err(|failure| Failure {
            location: None,
            ..failure
        })?;
        if let Some(origin) = self.job.origin.as_ref().filter(|origin| origin.owns(url)) {
            return self.fetch_from(&**origin, url).await;
        }
        let fetch = Fetch {
            url: url.to_owned(),
            auth: None,
            credentials: self.request.credentials.clone(),
            cancel: self.stop.clone(),
            progress: None,
            purpose: Some(Purpose {
                folder: folder.to_owned(),
                filename: None,
                prompt_id: Some(self.job.id.clone()),
            }),
        };
        // The closure must live as long as the download, which may outlive this prompt: it gets
        // what it needs by value.
        let (sender, mut progress) = tokio::sync::watch::channel((0_u64, None::<u64>));
        let report: Progress = Arc::new(move |so_far, total| {
            let _ = sender.send((so_far, total));
        });
        let fetching = self.around.storage.fetch(Fetch {
            progress: Some(report),
            ..fetch
        });
        tokio::pin!(fetching);
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetching => break fetched,
                Ok(()) = progress.changed() => {
                    let (so_far, total) = *progress.borrow_and_update();
                    self.tell_progress(url, so_far, total);
                }
            }
        };
        fetched.map_err(|error| self.failure(error))
    }

    /// Brings a file of the origin of the job into the workspace.
    async fn fetch_from(&self, origin: &dyn Origin, url: &str) -> Result<Fetched, Failure> {
        let started = std::time::Instant::now();
        let dir = self.workspace.subdir(".origin").await;
        let dir = dir.map_err(media::unwritable)?;
        let (path, size) = tokio::select! {
            fetched = origin.fetch(url, &dir) => fetched?,
            () = self.stop.cancelled() => return Err(self.job.stop_reason()),
        };
        Ok(Fetched::local(path, size, started.elapsed()))
    }

    fn tell_progress(&self, url: &str, so_far: u64, total: Option<u64>) {
        self.job.tell_with(|| JobEvent::Downloading {
            name: last_part(url),
            percent: total
                .filter(|total| *total > 0)
                .map(|total| so_far.saturating_mul(100) / total),
        });
        let data = || {
            let percent = total
                .filter(|total| *total > 0)
                .map(|total| (so_far as f64 / total as f64 * 1000.0).round() / 10.0);
            serde_json::json!({
                "prompt_id": &*self.job.id,
                "url": public_url(url),
                "downloaded": so_far,
                "total": total,
                "percent": percent
            })
        };
        if let Some(origin) = &self.job.origin {
            origin.tell("file_download_progress", data());
        }
        self.job.streams.message(Weight::Newest(20), || {
            serde_json::json!({"type": "file_download_progress", "data": data()}).to_string()
        });
    }

    pub(super) fn failure(&self, error: StorageError) -> Failure {
        match error.kind {
            // Otherwise it was the download alone that somebody has cancelled.
            ErrorKind::Cancelled if self.stop.is_cancelled() => self.job.stop_reason(),
            ErrorKind::Defect => panicked(&format!("a download of prompt {}", self.job.id)),
            _ => error.into_failure(Code::DownloadFailed),
        }
    }

    /// The name ComfyUI knows a placed file by: relative to its input directory, or the path itself
    /// for classes that take paths.
    pub(super) fn name_for(&self, class: &str, input: &str, path: PathBuf) -> Value {
        if media::takes_path(class, input, self.around.catalogue) {
            return path.to_string_lossy().into_owned().into();
        }
        let relative = path
            .strip_prefix(&self.around.comfy.input_dir)
            .map(std::path::Path::to_path_buf)
            .unwrap_or(path);
        relative.to_string_lossy().into_owned().into()
    }
}

/// What a file is called by its address, for people.
pub fn last_part(url: &str) -> String {
    let public = public_url(url);
    let path = public.split(['?', '#']).next().unwrap_or_default();
    let name = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    crate::limits::text::quoted(&name).into_owned()
}
