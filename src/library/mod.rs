//! The model files in ComfyUI's folders: what is there, and how more comes. Every protocol that
//! lists or downloads models asks here.

mod list;

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};
use url::Url;

pub use list::ModelFile;

use crate::comfy::client::CallError;
use crate::comfy::pool::Pool;
use crate::config::public_url;
use crate::error::{Code, Failure};
use crate::health::Health;
use crate::job::request::{check_auth, url_text};
use crate::storage::downloads::{Downloads, OngoingDownload, Purpose};
use crate::storage::{
    Auth, Credentials, ErrorKind, Fetch, Fetched, MODEL_EXTENSIONS, PlacedModel, Replace, Storage,
    StorageError, check_file_name, model_extension, model_name,
};

/// A model that somebody wants.
#[derive(Debug)]
pub struct Wanted {
    /// Where it comes from.
    pub url: String,
    /// The model folder, as the client calls it.
    pub folder: String,
    /// Its name in the folder; by default the last segment of the URL.
    pub filename: Option<String>,
    /// Credentials for the origin.
    pub auth: Option<Auth>,
}

/// A model that somebody wants, checked.
#[derive(Debug)]
pub struct ModelDownload {
    /// Where it comes from.
    pub url: String,
    /// As the client calls it.
    pub folder: String,
    /// The name in the folder.
    pub filename: String,
    /// As ComfyUI calls the folder.
    known_as: String,
    /// Where ComfyUI looks for it.
    dirs: Vec<PathBuf>,
    auth: Option<Auth>,
}

/// The model files. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    comfy: Pool,
    storage: Storage,
    health: Health,
}

impl Library {
    /// Asks nothing yet.
    pub const fn new(comfy: Pool, storage: Storage, health: Health) -> Self {
        Self {
            comfy,
            storage,
            health,
        }
    }

    /// The downloads, of models and of prompts.
    pub fn downloads(&self) -> &Downloads {
        self.storage.downloads()
    }

    /// Checks what can be checked without asking the origin.
    ///
    /// # Errors
    /// A 400 at `url`, `folder`, `filename` or a member of `auth`; 503 while nothing is known of
    /// ComfyUI's folders.
    pub fn check(&self, wanted: Wanted) -> Result<ModelDownload, Failure> {
        let url = url_text(&wanted.url, "url")?.to_owned();
        let Some(parsed) = Url::parse(&url).ok().filter(|_| Storage::is_url(&url)) else {
            return Err(Failure::invalid(
                "url",
                "\"url\" must be a URL that begins with http://, https:// or s3://",
            ));
        };
        let (known_as, dirs) = self
            .folder(&wanted.folder)
            .map_err(|failure| failure.at("folder"))?;
        let filename = match wanted.filename {
            Some(name) => check_file_name(&name)
                .map_err(|error| Failure::invalid("filename", error.message))?,
            None => name_of(&parsed).ok_or_else(|| {
                Failure::invalid(
                    "filename",
                    "the URL does not end with a usable file name: give one as \"filename\"",
                )
            })?,
        };
        if let Some(auth) = &wanted.auth {
            check_auth(auth, "auth")?;
            auth.check_added_to(&parsed)
                .map_err(|reason| Failure::invalid("auth.query_param", reason))?;
        }
        Ok(ModelDownload {
            url,
            folder: wanted.folder,
            filename,
            known_as,
            dirs,
            auth: wanted.auth,
        })
    }

    /// Says what else can be known to be wrong with a URL before anything is fetched.
    ///
    /// # Errors
    /// A 400 at `url`.
    pub async fn check_url(&self, download: &ModelDownload) -> Result<(), Failure> {
        let checked = self.storage.check_url(&download.url).await;
        checked.map_err(|error| Failure::invalid("url", error.message))
    }

    /// Begins a download that goes on by itself; returns its name in the list of downloads.
    pub fn start(&self, download: ModelDownload) -> Arc<str> {
        let ongoing = self.begin(&download);
        let id = ongoing.id().clone();
        let library = self.clone();
        tokio::spawn(async move {
            let url = public_url(&download.url);
            match library.bring(&download, ongoing).await {
                Ok((placed, fetched)) => {
                    info!(
                        url,
                        path = %placed.path().display(),
                        size = fetched.size,
                        "model downloaded"
                    );
                }
                Err(error) => warn!(url, error = %error, "model download failed"),
            }
        });
        id
    }

    /// Lists a download that is about to begin, for [`Library::bring`].
    pub fn begin(&self, download: &ModelDownload) -> OngoingDownload {
        let purpose = Purpose {
            folder: download.folder.clone(),
            filename: Some(download.filename.clone()),
            prompt_id: None,
        };
        self.downloads().begin(&download.url, purpose)
    }

    /// Brings a model under a name that ComfyUI lists in its folder (F02), and waits for that.
    ///
    /// # Errors
    /// When it cannot be had, or ComfyUI would not list it.
    pub async fn bring(
        &self,
        download: &ModelDownload,
        ongoing: OngoingDownload,
    ) -> Result<(PlacedModel, Fetched), StorageError> {
        let result = tokio::select! {
            result = self.fetch(download, &ongoing) => result,
            () = ongoing.cancel().cancelled() => Err(cancelled(&ongoing, &download.url)),
        };
        match &result {
            Ok((placed, fetched)) => {
                ongoing.completed(fetched.size, fetched.cached, Some(&placed.name));
            }
            Err(error) => ongoing.failed(error),
        }
        result
    }

    async fn fetch(
        &self,
        download: &ModelDownload,
        ongoing: &OngoingDownload,
    ) -> Result<(PlacedModel, Fetched), StorageError> {
        let fetch = Fetch {
            url: download.url.clone(),
            auth: download.auth.clone(),
            credentials: Credentials::default(),
            cancel: ongoing.cancel().clone(),
            progress: Some(ongoing.progress()),
            purpose: None,
        };
        let fetched = self.storage.fetch_named(fetch, &download.filename).await?;
        let full = model_name(&fetched, Some(&download.filename)).await;
        // Some folders list files without an extension, or any.
        let plain = (full != download.filename).then(|| download.filename.clone());
        for name in [full].into_iter().chain(plain) {
            let placed = self
                .storage
                .place_model(&fetched, &download.dirs, &name, Replace::Clients)
                .await?;
            if let Some(warning) = &placed.kept {
                warn!(warning, "model not linked");
            }
            if self.is_listed(download, &placed).await || placed.kept.is_some() {
                self.comfy.models_changed();
                return Ok((placed, fetched));
            }
            if placed.new {
                self.storage.withdraw_model(&fetched, &placed).await;
            }
        }
        Err(StorageError::new(
            ErrorKind::Failed,
            format!(
                "ComfyUI does not list \"{}\" in {}: give a \"filename\" that ends in one of .{}",
                download.filename.chars().take(200).collect::<String>(),
                download.known_as,
                MODEL_EXTENSIONS.join(", .")
            ),
        ))
    }

    /// Whether ComfyUI lists what was placed: in the folder that was named, or in another one with
    /// the same directory, as plug-ins have them for files of their own kind. A ComfyUI that does
    /// not answer is taken to list every model.
    async fn is_listed(&self, download: &ModelDownload, placed: &PlacedModel) -> bool {
        let (dir, name) = (&placed.dir, &placed.name);
        match self.comfy.lists_model(&download.known_as, dir, name).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(CallError::Unexpected { .. } | CallError::Unreachable { .. }) => {
                return model_extension(name).is_some();
            }
        }
        let catalogue = self.comfy.catalogue();
        let others = catalogue.folders.iter().filter(|(folder, dirs)| {
            **folder != download.known_as && *folder != "custom_nodes" && dirs.contains(dir)
        });
        for (folder, _) in others {
            if matches!(self.comfy.lists_model(folder, dir, name).await, Ok(true)) {
                return true;
            }
        }
        false
    }

    /// What ComfyUI calls a folder, and its directories.
    fn folder(&self, folder: &str) -> Result<(String, Vec<PathBuf>), Failure> {
        let catalogue = self.comfy.catalogue();
        if catalogue.folders.is_empty() {
            self.health.accepts(true)?;
        }
        // The names of two folders before ComfyUI renamed them, which existing clients go on using.
        let folder = match folder {
            "clip" if !catalogue.folders.contains_key("clip") => "text_encoders",
            "unet" if !catalogue.folders.contains_key("unet") => "diffusion_models",
            folder => folder,
        };
        let known: Vec<&str> = catalogue
            .folders
            .keys()
            .map(String::as_str)
            .filter(|name| *name != "custom_nodes")
            .collect();
        match catalogue.model_dirs(folder) {
            dirs if folder != "custom_nodes" && !dirs.is_empty() => Ok((folder.to_owned(), dirs)),
            _ => {
                let shown: String = folder.chars().take(60).collect();
                Err(Failure::new(
                    Code::InvalidRequest,
                    format!(
                        "Unknown model type: {shown}. Available types: {}",
                        known.join(", ")
                    ),
                ))
            }
        }
    }
}

fn cancelled(ongoing: &OngoingDownload, url: &str) -> StorageError {
    let message = format!(
        "the download of {} was cancelled by a request (DELETE /downloads/{})",
        public_url(url),
        ongoing.id()
    );
    StorageError::new(ErrorKind::Cancelled, message)
}

/// The last segment of a URL's path, if it can be a file's name.
fn name_of(url: &Url) -> Option<String> {
    let last = url.path().rsplit('/').next()?;
    let decoded = percent_encoding::percent_decode_str(last)
        .decode_utf8()
        .ok()?;
    check_file_name(&decoded).ok()
}
