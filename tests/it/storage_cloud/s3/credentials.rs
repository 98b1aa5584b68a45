//! Signed URLs, and credentials of requests.

use std::time::Duration;

use comfyui_api::config::Secret;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::s3::S3Backend;
use comfyui_api::storage::{Auth, ErrorKind};

use super::{backend, target};
use crate::storage_cloud::{outbound, put, read, source, storage_config};
use crate::support::moto;

#[tokio::test]
async fn signed_urls_open_without_credentials() {
    let (backend, bucket, directory) = (
        backend().await,
        moto::bucket().await,
        tempfile::tempdir().unwrap(),
    );
    let target = target(&bucket, "a b/");
    put(&backend, &target, directory.path(), "é.png", b"signed").await;
    let url = backend
        .sign(&target, "é.png", Duration::from_secs(600))
        .await
        .unwrap();
    assert!(
        url.contains("X-Amz-Signature=")
            && url.contains("X-Amz-Expires=600")
            && !url.contains("marked"),
        "{url}"
    );
    assert_eq!(
        reqwest::get(url).await.unwrap().text().await.unwrap(),
        "signed"
    );
}

fn brought(endpoint: &str) -> Auth {
    Auth::S3 {
        access_key_id: Secret::new("their-id"),
        secret_access_key: Secret::new("marked"),
        session_token: None,
        region: None,
        endpoint: Some(endpoint.to_owned()),
    }
}

#[tokio::test]
async fn credentials_of_requests_use_their_own_service() {
    let (operator, bucket, directory) = (
        backend().await,
        moto::bucket().await,
        tempfile::tempdir().unwrap(),
    );
    put(
        &operator,
        &target(&bucket, ""),
        directory.path(),
        "x",
        b"theirs",
    )
    .await;
    let mut source = source(&format!("s3://{bucket}/x"));
    source.auth = Some(brought(moto::url()));
    // Nothing of the operator's is configured here.
    let trusting = S3Backend::new(
        &storage_config(&[]).s3,
        outbound(&[("ALLOW_PRIVATE_NETWORKS", "true")]),
    );
    assert_eq!(
        read(trusting.open(&source, None, None).await.unwrap()).await,
        b"theirs"
    );
    assert_eq!(trusting.head(&source).await.unwrap().size, Some(6));
    source.auth = Some(Auth::Bearer {
        token: Secret::new("marked"),
    });
    let error = trusting.head(&source).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid && !error.message.contains("marked"),
        "{error}"
    );
}

#[tokio::test]
async fn endpoints_of_requests_obey_the_guard() {
    let mut source = source("s3://bucket/x");
    source.auth = Some(brought(
        tokio::task::spawn_blocking(moto::url).await.unwrap(),
    ));
    let guarded = S3Backend::new(&storage_config(&[]).s3, outbound(&[]));
    let error = guarded.head(&source).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(
        error.message.contains("HTTP_TRUSTED_ORIGINS")
            && error.message.contains("ALLOW_PRIVATE_NETWORKS"),
        "{error}"
    );
}
