//! The list of backends. The first one that claims a URL gets it, so HTTP, which claims every web URL, comes last.

use std::sync::Arc;

use super::backend::Backend;
use super::http::HttpBackend;
use crate::config::StorageConfig;
use crate::net::Outbound;

/// A line for each backend, in the order of storage.md.
pub(super) fn all(config: &StorageConfig, outbound: &Outbound) -> Vec<Arc<dyn Backend>> {
    vec![
        // S3: `s3://bucket/key`.
        // Azure Blob: `https://<account>.blob.core.windows.net/...` and the configured endpoint.
        // Hugging Face: `https://huggingface.co/...` or `HF_ENDPOINT`.
        Arc::new(HttpBackend::new(config, outbound)),
    ]
}
