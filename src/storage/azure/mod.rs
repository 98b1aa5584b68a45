//! Azure Blob Storage, Azurite included.
//!
//! Requests leave through the product's own clients; `object_store` signs them ([`request`]).

mod account;
mod download;
mod failure;
mod identity;
mod location;
mod request;
mod sas;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::backend::{Backend, ByteRange, ObjectInfo, ObjectStream, Source};
use super::{ErrorKind, Progress, StorageError, Target, UploadFile};
use crate::config::AzureConfig;
use crate::net::Outbound;
use account::{Account, Permission};
use location::Location;
use request::Resource;

const NOT_CONFIGURED: &str = "Azure Blob Storage is not configured: set \
                              AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with \
                              AZURE_STORAGE_KEY, with AZURE_STORAGE_SAS_TOKEN, or with a managed \
                              identity";

/// Characters of a name that would not stay in a URL's path. Spaces stay as people write them; URL
/// parsers encode them.
const NOT_PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b'\\');

/// The Azure backend.
pub struct AzureBackend {
    /// The operator's account; a sentence when it is configured wrongly; `None` when it is not
    /// configured.
    account: Option<Result<Account, String>>,
    outbound: Outbound,
}

impl AzureBackend {
    /// Reads the configuration; touches neither network nor disk.
    pub fn new(config: &AzureConfig, outbound: Outbound) -> Self {
        Self {
            account: Account::of(config, &outbound),
            outbound,
        }
    }

    fn account(&self) -> Result<&Account, StorageError> {
        match &self.account {
            Some(Ok(account)) => Ok(account),
            Some(Err(sentence)) => Err(StorageError::new(ErrorKind::Invalid, sentence.clone())),
            None => Err(StorageError::new(ErrorKind::Invalid, NOT_CONFIGURED)),
        }
    }

    fn own_endpoint(&self) -> Option<&Url> {
        self.account
            .as_ref()
            .and_then(|account| account.as_ref().ok())
            .map(|account| &account.endpoint)
    }

    async fn blob(&self, source: &Source) -> Result<(Resource, Location), StorageError> {
        let location = Location::of(&source.url, self.own_endpoint())?;
        if !location.own {
            // Behind a proxy the connection is not ours to check.
            self.outbound
                .check(&location.endpoint)
                .await
                .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))?;
        }
        let account = self
            .account
            .as_ref()
            .and_then(|account| account.as_ref().ok())
            .filter(|_| location.own);
        let blob = account::blob_at(&location, source.auth.as_ref(), account, &self.outbound)?;
        Ok((blob, location))
    }

    fn target(&self, target: &Target, filename: &str) -> Result<Resource, StorageError> {
        let shown = self.url_of(target, filename);
        let Target::Azure {
            container,
            blob_prefix,
        } = target
        else {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                "this upload target is not Azure Blob Storage",
            ));
        };
        location::check_container(container)?;
        let service = self.account()?.service(&self.outbound, shown)?;
        Ok(service.blob(container, &blob_name(blob_prefix, filename)))
    }
}

fn blob_name(prefix: &str, filename: &str) -> String {
    format!("{}{filename}", prefix.strip_prefix('/').unwrap_or(prefix))
}

#[async_trait]
impl Backend for AzureBackend {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn claims(&self, url: &Url) -> bool {
        location::is_azure(url)
            || self
                .own_endpoint()
                .is_some_and(|endpoint| location::is_below(url, endpoint))
    }

    fn takes(&self, target: &Target) -> bool {
        matches!(target, Target::Azure { .. })
    }

    async fn head(&self, source: &Source) -> Result<ObjectInfo, StorageError> {
        let (blob, location) = self.blob(source).await?;
        download::head(&blob, &location).await
    }

    async fn open(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        let (blob, location) = self.blob(source).await?;
        download::open(&blob, &location, range, if_match).await
    }

    async fn check(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        self.target(target, "")?;
        match self.account()?.permission {
            Permission::Sas(_) if signed => Err(StorageError::new(
                ErrorKind::Invalid,
                "signed URLs cannot be made with AZURE_STORAGE_SAS_TOKEN: set AZURE_STORAGE_KEY, \
                 or a connection string with AccountKey, or use a managed identity",
            )),
            _ => Ok(()),
        }
    }

    fn url_of(&self, target: &Target, filename: &str) -> String {
        let (
            Target::Azure {
                container,
                blob_prefix,
            },
            Some(endpoint),
        ) = (target, self.own_endpoint())
        else {
            return String::new();
        };
        let name = blob_name(blob_prefix, filename);
        format!(
            "{}/{container}/{}",
            endpoint.as_str().trim_end_matches('/'),
            utf8_percent_encode(&name, NOT_PATH)
        )
    }

    async fn upload(
        &self,
        target: &Target,
        file: &UploadFile,
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        let blob = self.target(target, &file.filename)?;
        upload::upload(&blob, file, progress, cancel).await
    }

    async fn sign(
        &self,
        target: &Target,
        filename: &str,
        expiry: Duration,
    ) -> Result<String, StorageError> {
        self.check(target, true).await?;
        let blob = self.target(target, filename)?;
        self.account()?.sign(&blob, expiry).await
    }
}
