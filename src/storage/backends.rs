//! The list of backends. The first one that claims a URL gets it, so HTTP, which claims every web
//! URL, comes last.

use std::sync::Arc;

use super::azure::AzureBackend;
use super::backend::Backend;
use super::http::HttpBackend;
use super::huggingface::HuggingFaceBackend;
use super::s3::S3Backend;
use crate::config::StorageConfig;
use crate::net::Outbound;

/// A line for each backend, in the order of storage.md.
pub(super) fn all(config: &StorageConfig, outbound: &Outbound) -> Vec<Arc<dyn Backend>> {
    vec![
        Arc::new(S3Backend::new(&config.s3, outbound.clone())),
        Arc::new(AzureBackend::new(&config.azure, outbound.clone())),
        Arc::new(HuggingFaceBackend::new(&config.hf, outbound.clone())),
        Arc::new(HttpBackend::new(config, outbound)),
    ]
}
