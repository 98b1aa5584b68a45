//! Public blobs, and keys that stay with their account.

use std::sync::{Arc, Mutex};

use axum::http::HeaderMap;
use comfyui_api::storage::ErrorKind;
use comfyui_api::storage::azure::AzureBackend;
use comfyui_api::storage::backend::Backend;
use url::Url;

use super::azure::{TRUSTING, backend, target, unconfigured};
use super::{outbound, put, read, source, storage_config};
use crate::support::azurite;

#[tokio::test]
async fn public_blobs_need_no_configuration() {
    let (backend, container, directory) = (
        backend().await,
        azurite::container(true).await,
        tempfile::tempdir().unwrap(),
    );
    let target = target(&container, "");
    put(&backend, &target, directory.path(), "x", b"public").await;
    let source = source(&backend.url_of(&target, "x"));
    assert_eq!(
        read(unconfigured().open(&source, None, None).await.unwrap()).await,
        b"public"
    );
}

#[tokio::test]
async fn the_key_stays_with_its_account() {
    let headers: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback({
        let headers = headers.clone();
        move |sent: HeaderMap| {
            headers.lock().unwrap().push(sent);
            async { axum::http::StatusCode::FORBIDDEN }
        }
    });
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let text = azurite::connection_string().await;
    let backend = AzureBackend::new(
        &storage_config(&[("AZURE_STORAGE_CONNECTION_STRING", &text)]).azure,
        outbound(TRUSTING),
    );
    let error = backend
        .head(&source(&format!("http://{other}/devstoreaccount1/c/b")))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error}");
    let headers = headers.lock().unwrap().clone();
    assert_eq!(headers.len(), 1);
    assert!(
        headers[0].get("authorization").is_none(),
        "{:?}",
        headers[0]
    );
    server.abort();
}

#[tokio::test]
async fn accounts_of_the_public_cloud_are_claimed() {
    let backend = unconfigured();
    for (url, claimed) in [
        ("https://acc.blob.core.windows.net/c/b", true),
        ("https://acc.queue.core.windows.net/c/b", false),
        ("https://acc.blob.core.windows.net.example/c/b", false),
        ("http://127.0.0.1:10000/devstoreaccount1/c/b", false),
    ] {
        assert_eq!(backend.claims(&Url::parse(url).unwrap()), claimed, "{url}");
    }
}
