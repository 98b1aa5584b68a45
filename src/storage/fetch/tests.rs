use std::time::Duration;

use crate::storage::backend::{ByteRange, ObjectInfo};
use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::super::backend::ObjectStream;
use super::super::{Credentials, Storage, Target, TransferSettings, UploadFile};
use super::*;
use crate::config::Config;
use crate::error::Code;
use crate::events::Events;
use crate::net::Outbound;

/// A backend that has a defect, as the AWS library had one.
struct Panicking;

#[async_trait]
impl Backend for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn claims(&self, _: &Url) -> bool {
        true
    }

    fn takes(&self, _: &Target) -> bool {
        true
    }

    async fn head(&self, _: &Source) -> Result<ObjectInfo, StorageError> {
        panic!("a defect")
    }

    async fn open(
        &self,
        _: &Source,
        _: Option<ByteRange>,
        _: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        panic!("a defect")
    }

    async fn check(&self, _: &Target, _: bool) -> Result<(), StorageError> {
        panic!("a defect")
    }

    fn url_of(&self, _: &Target, _: &str) -> String {
        panic!("a defect")
    }

    async fn upload(
        &self,
        _: &Target,
        _: &UploadFile,
        _: Option<&Progress>,
        _: &CancellationToken,
    ) -> Result<(), StorageError> {
        panic!("a defect")
    }

    async fn sign(&self, _: &Target, _: &str, _: Duration) -> Result<String, StorageError> {
        panic!("a defect")
    }
}

/// A22: whoever waits for a download that panicked is told that it was our fault.
#[tokio::test]
async fn a_panic_is_a_defect_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let env: BTreeMap<String, String> =
        [("CACHE_DIR".to_owned(), dir.path().display().to_string())].into();
    let config = Config::from_env(&env).unwrap().storage;
    crate::net::install_crypto();
    let outbound = Outbound::new(&config).unwrap();
    let settings = TransferSettings::default();
    let mut storage = Storage::with_tuning(&config, outbound, Events::default(), settings);
    Arc::get_mut(&mut storage.inner).unwrap().backends = vec![Arc::new(Panicking)];
    storage.prepare().await.unwrap();
    let fetch = Fetch {
        url: "http://h/x.png".into(),
        auth: None,
        credentials: Credentials::default(),
        cancel: CancellationToken::new(),
        progress: None,
        purpose: None,
    };
    let error = storage.fetch(fetch).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Defect, "{error}");
    let failure = error.into_failure(Code::DownloadFailed);
    assert_eq!(
        (failure.code, failure.status.as_u16()),
        (Code::Internal, 500)
    );
}
