//! S3 and everything that speaks its protocol: AWS, MinIO, R2, Ceph, GCS interoperability.
//!
//! The AWS SDK signs and speaks; its requests leave through the product's own HTTP clients
//! ([`transport`]), so that resolver, TLS roots, proxy and address guard are the same as
//! everywhere. Nothing is set up before the first use.

mod client;
mod download;
mod failure;
mod location;
mod transport;
mod upload;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use location::Location;

use super::backend::{Backend, ByteRange, ObjectInfo, ObjectStream, Source};
use super::{ErrorKind, Progress, StorageError, Target, UploadFile};
use crate::config::S3Config;
use crate::net::Outbound;
use client::{Clients, Store};

/// The S3 backend.
pub struct S3Backend {
    clients: Clients,
    /// Which spelling of a key was found, by the URL as it was written.
    spelled: Mutex<HashMap<String, Location>>,
}

/// So many spellings are remembered.
const SPELLED: usize = 1000;

impl S3Backend {
    /// Keeps the configuration; touches neither network nor disk.
    pub fn new(config: &S3Config, outbound: Outbound) -> Self {
        Self {
            clients: Clients::new(config.clone(), outbound),
            spelled: Mutex::default(),
        }
    }

    /// Does something with the object that a URL means: with the first spelling of its key under
    /// which there is one.
    async fn with_object<T, F: Future<Output = Result<T, StorageError>>>(
        &self,
        source: &Source,
        work: impl Fn(Store, Location) -> F,
    ) -> Result<T, StorageError> {
        let spellings = Location::spellings(source)?;
        let store = self.clients.of(source.auth.as_ref()).await?;
        let known = self.spelled().get(&source.written).cloned();
        if let Some(known) = known
            && let Ok(done) = work(store.clone(), known).await
        {
            return Ok(done);
        }
        let several = spellings.len() > 1;
        let mut first_error = None;
        for location in spellings {
            match work(store.clone(), location.clone()).await {
                Ok(done) => {
                    let mut spelled = self.spelled();
                    if spelled.len() >= SPELLED {
                        spelled.clear();
                    }
                    if several {
                        spelled.insert(source.written.clone(), location);
                    }
                    return Ok(done);
                }
                // Who may not list a bucket is told that everything missing is forbidden.
                Err(error)
                    if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unauthorized) =>
                {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| StorageError::new(ErrorKind::NotFound, "no object")))
    }

    fn spelled(&self) -> MutexGuard<'_, HashMap<String, Location>> {
        self.spelled.lock()
    }
}

/// The bucket and the key of a file at a target.
fn place<'a>(target: &'a Target, filename: &str) -> Result<(&'a str, String), StorageError> {
    let Target::S3 { bucket, prefix } = target else {
        return Err(StorageError::new(
            ErrorKind::Invalid,
            "this upload target is not S3",
        ));
    };
    location::check_bucket(bucket)?;
    Ok((bucket, format!("{prefix}{filename}")))
}

#[async_trait]
impl Backend for S3Backend {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn claims(&self, url: &Url) -> bool {
        url.scheme() == "s3"
    }

    fn takes(&self, target: &Target) -> bool {
        matches!(target, Target::S3 { .. })
    }

    async fn head(&self, source: &Source) -> Result<ObjectInfo, StorageError> {
        let head = |store: Store, location: Location| async move {
            download::head(&store, &location).await
        };
        self.with_object(source, head).await
    }

    async fn open(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        let open = |store: Store, location: Location| async move {
            download::open(&store, &location, range, if_match).await
        };
        self.with_object(source, open).await
    }

    async fn check(&self, target: &Target, _signed: bool) -> Result<(), StorageError> {
        // Signing needs the same credentials as uploading, so that one check serves both.
        place(target, "")?;
        self.clients.of(None).await.map(drop)
    }

    fn url_of(&self, target: &Target, filename: &str) -> String {
        match target {
            Target::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}{filename}"),
            _ => String::new(),
        }
    }

    async fn upload(
        &self,
        target: &Target,
        file: &UploadFile,
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        let (bucket, key) = place(target, &file.filename)?;
        let client = self.clients.of(None).await?.client;
        upload::upload(&client, bucket, &key, file, progress, cancel).await
    }

    async fn sign(
        &self,
        target: &Target,
        filename: &str,
        expiry: Duration,
    ) -> Result<String, StorageError> {
        let (bucket, key) = place(target, filename)?;
        let client = self.clients.of(None).await?.client;
        let shown = format!("s3://{bucket}/{key}");
        let config = PresigningConfig::expires_in(expiry).map_err(|error| {
            StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{shown}: a URL cannot be signed for {} s: {error}",
                    expiry.as_secs()
                ),
            )
        })?;
        let request = client
            .get_object()
            .bucket(bucket)
            .key(&key)
            .presigned(config)
            .await;
        request
            .map(|request| request.uri().to_owned())
            .map_err(|error| failure::from_sdk(&shown, error))
    }
}
