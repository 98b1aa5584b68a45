//! Hugging Face, spoken natively over the product's own HTTP clients.
//!
//! The `hf-hub` crate was measured and left out: with it come 62 crates and 5 MB of binary, a
//! second way of finding CA roots that fails where there are none, its own connections past the
//! resolver and the address guard, and uploads through xet only. What is needed of the hub's
//! protocol is small: resolve (with redirects and `x-linked-*` headers), preupload, LFS batch,
//! commit.

mod commit;
mod download;
mod failure;
mod hub;
mod lfs;
mod location;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::backend::{Backend, ByteRange, ObjectInfo, ObjectStream, Source};
use super::{ErrorKind, HfTarget, Progress, StorageError, Target, UploadFile};
use crate::config::HfConfig;
use crate::net::Outbound;
use hub::Hub;

/// The Hugging Face backend.
pub struct HuggingFaceBackend {
    hub: Hub,
}

impl HuggingFaceBackend {
    /// Keeps the configuration; touches neither network nor disk.
    pub fn new(config: &HfConfig, outbound: Outbound) -> Self {
        Self {
            hub: Hub::new(config.clone(), outbound),
        }
    }
}

fn repository(target: &Target) -> Result<&HfTarget, StorageError> {
    match target {
        Target::HuggingFace(repository) => Ok(repository),
        _ => Err(StorageError::new(
            ErrorKind::Invalid,
            "this upload target is not Hugging Face",
        )),
    }
}

#[async_trait]
impl Backend for HuggingFaceBackend {
    fn name(&self) -> &'static str {
        "huggingface"
    }

    fn claims(&self, url: &Url) -> bool {
        location::is_public_hub(url) || location::is_below(url, self.hub.endpoint())
    }

    fn takes(&self, target: &Target) -> bool {
        matches!(target, Target::HuggingFace(_))
    }

    async fn head(&self, source: &Source) -> Result<ObjectInfo, StorageError> {
        download::head(&self.hub, source).await
    }

    async fn open(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        download::open(&self.hub, source, range, if_match).await
    }

    async fn check(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        let target = repository(target)?;
        location::check_target(target)?;
        if signed {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                "Hugging Face has no signed URLs: leave signed_url out, or upload to S3 or Azure",
            ));
        }
        self.hub.token().map(drop)
    }

    fn url_of(&self, target: &Target, filename: &str) -> String {
        repository(target)
            .map(|target| location::url_of(self.hub.endpoint(), target, filename))
            .unwrap_or_default()
    }

    async fn upload(
        &self,
        target: &Target,
        file: &UploadFile,
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        upload::upload(
            &self.hub,
            repository(target)?,
            std::slice::from_ref(file),
            progress,
            cancel,
        )
        .await
    }

    fn uploads_together(&self) -> bool {
        true
    }

    async fn upload_together(
        &self,
        target: &Target,
        files: &[UploadFile],
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        upload::upload(&self.hub, repository(target)?, files, progress, cancel).await
    }

    async fn sign(
        &self,
        target: &Target,
        _filename: &str,
        _expiry: Duration,
    ) -> Result<String, StorageError> {
        self.check(target, true).await.map(|()| String::new())
    }
}
