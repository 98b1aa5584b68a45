//! S3, Azure Blob Storage, Hugging Face.

use std::path::PathBuf;

use url::Url;

use crate::config::variables::storage::*;
use crate::config::{Reader, Secret};

/// S3; the SDK reads the rest (profile, IRSA, instance metadata) itself.
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`, else `AWS_ENDPOINT`, else `S3_ENDPOINT`.
    pub endpoint: Option<Url>,
    /// `S3_FORCE_PATH_STYLE`; `None` means: when an endpoint is set.
    pub force_path_style: Option<bool>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<Secret>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
}

/// Azure Blob Storage.
#[derive(Debug, Clone, Default)]
pub struct AzureConfig {
    /// `AZURE_STORAGE_CONNECTION_STRING`.
    pub connection_string: Option<Secret>,
    /// `AZURE_STORAGE_ACCOUNT`.
    pub account: Option<String>,
    /// `AZURE_STORAGE_KEY`.
    pub key: Option<Secret>,
    /// `AZURE_STORAGE_SAS_TOKEN`.
    pub sas_token: Option<Secret>,
    /// Workload identity as AKS injects it: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`,
    /// `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_AUTHORITY_HOST`.
    pub tenant_id: Option<String>,
    /// See `tenant_id`; also names a user-assigned managed identity.
    pub client_id: Option<String>,
    /// See `tenant_id`.
    pub federated_token_file: Option<PathBuf>,
    /// See `tenant_id`.
    pub authority_host: Option<String>,
}

/// Hugging Face.
#[derive(Debug, Clone)]
pub struct HfConfig {
    /// `HF_TOKEN`.
    pub token: Option<Secret>,
    /// `HF_ENDPOINT` without a trailing slash.
    pub endpoint: Url,
}

pub(super) fn read_s3(r: &mut Reader) -> S3Config {
    let endpoints = [
        &AWS_ENDPOINT_URL_S3,
        &AWS_ENDPOINT_URL,
        &AWS_ENDPOINT,
        &S3_ENDPOINT,
    ];
    let endpoint = endpoints
        .into_iter()
        .find(|endpoint| r.text(endpoint).is_some());
    S3Config {
        region: r
            .sent_text(&AWS_REGION)
            .or_else(|| r.sent_text(&AWS_DEFAULT_REGION)),
        endpoint: endpoint.and_then(|endpoint| r.url(endpoint)),
        force_path_style: if r
            .text(&S3_FORCE_PATH_STYLE)
            .is_some_and(|value| value.eq_ignore_ascii_case("auto"))
        {
            None
        } else {
            r.bool(&S3_FORCE_PATH_STYLE)
        },
        access_key_id: r.sent(&AWS_ACCESS_KEY_ID),
        secret_access_key: r.sent(&AWS_SECRET_ACCESS_KEY),
        session_token: r.sent(&AWS_SESSION_TOKEN),
    }
}

pub(super) fn read_azure(r: &mut Reader) -> AzureConfig {
    AzureConfig {
        connection_string: r.sent(&AZURE_STORAGE_CONNECTION_STRING),
        account: r.sent_text(&AZURE_STORAGE_ACCOUNT),
        key: r.sent(&AZURE_STORAGE_KEY),
        sas_token: r.sent(&AZURE_STORAGE_SAS_TOKEN),
        tenant_id: r.text(&AZURE_TENANT_ID),
        client_id: r.text(&AZURE_CLIENT_ID),
        federated_token_file: r.path(&AZURE_FEDERATED_TOKEN_FILE),
        authority_host: r.text(&AZURE_AUTHORITY_HOST),
    }
}

pub(super) fn read_hf(r: &mut Reader) -> HfConfig {
    let mut endpoint = r.url(&HF_ENDPOINT);
    if let Some(url) = &mut endpoint {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    #[expect(clippy::unwrap_used, reason = "a constant URL parses")]
    let endpoint = endpoint.unwrap_or_else(|| Url::parse(HF_ENDPOINT.default).unwrap());
    HfConfig {
        token: r.sent(&HF_TOKEN),
        endpoint,
    }
}
