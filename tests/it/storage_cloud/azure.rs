//! Against Azurite.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfyui_api::config::Secret;
use comfyui_api::storage::azure::AzureBackend;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::{Auth, ErrorKind, Target};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{comes_back, file, gives_ranges, noise, outbound, put, read, source, storage_config};
use crate::support::azurite;

pub(super) const TRUSTING: &[(&str, &str)] = &[("ALLOW_PRIVATE_NETWORKS", "true")];

pub(super) async fn backend() -> AzureBackend {
    let text = azurite::connection_string().await;
    AzureBackend::new(
        &storage_config(&[("AZURE_STORAGE_CONNECTION_STRING", &text)]).azure,
        outbound(&[]),
    )
}

pub(super) fn unconfigured() -> AzureBackend {
    AzureBackend::new(&storage_config(&[]).azure, outbound(TRUSTING))
}

pub(super) fn target(container: &str, prefix: &str) -> Target {
    Target::Azure {
        container: container.to_owned(),
        blob_prefix: prefix.to_owned(),
    }
}

#[tokio::test]
async fn files_come_back_under_the_url_that_was_promised() {
    let (backend, container) = (backend().await, azurite::container(false).await);
    for (prefix, name, bytes) in [
        ("/a b/", "c+d é.png", noise(100_000)),
        ("", "plain.png", b"x".to_vec()),
        ("empty/", "file", Vec::new()),
    ] {
        let target = target(&container, prefix);
        backend.check(&target, true).await.unwrap();
        let url = comes_back(&backend, &target, name, &bytes).await;
        let expected = format!(
            "{}/{container}/{}{name}",
            azurite::endpoint(),
            prefix.trim_start_matches('/')
        );
        assert_eq!(Url::parse(&url).unwrap(), Url::parse(&expected).unwrap());
    }
}

#[tokio::test]
async fn names_that_look_like_urls_stay_names() {
    let (backend, container, directory) = (
        backend().await,
        azurite::container(false).await,
        tempfile::tempdir().unwrap(),
    );
    let target = target(&container, "");
    for name in ["100%41.png", "what?is.png", "a#b.png"] {
        put(&backend, &target, directory.path(), name, name.as_bytes()).await;
        let stream = backend
            .open(&source(&backend.url_of(&target, name)), None, None)
            .await
            .unwrap();
        assert_eq!(read(stream).await, name.as_bytes());
        let signed = backend
            .sign(&target, name, Duration::from_secs(600))
            .await
            .unwrap();
        assert_eq!(
            reqwest::get(signed).await.unwrap().text().await.unwrap(),
            name
        );
    }
}

#[tokio::test]
async fn ranges_and_validators() {
    let (backend, container) = (backend().await, azurite::container(false).await);
    gives_ranges(&backend, &target(&container, ""), "\"0x123\"").await;
}

#[tokio::test]
async fn large_files_go_in_blocks_as_one_stream() {
    let (backend, container, directory) = (
        backend().await,
        azurite::container(false).await,
        tempfile::tempdir().unwrap(),
    );
    let (target, bytes) = (target(&container, "big/"), noise(40 * 1024 * 1024 + 17));
    let sent = Arc::new(Mutex::new(0));
    let progress: comfyui_api::storage::Progress = Arc::new({
        let sent = sent.clone();
        move |now, _| *sent.lock().unwrap() = now
    });
    backend
        .upload(
            &target,
            &file(directory.path(), "x", &bytes),
            Some(&progress),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    assert_eq!(*sent.lock().unwrap(), bytes.len() as u64);
    let source = source(&backend.url_of(&target, "x"));
    let info = backend.head(&source).await.unwrap();
    assert_eq!(
        (info.size, info.content_type.as_deref()),
        (Some(bytes.len() as u64), Some("image/png"))
    );
    assert!(read(backend.open(&source, None, None).await.unwrap()).await == bytes);
}

#[tokio::test]
async fn a_cancelled_upload_is_never_visible() {
    let (backend, container, directory) = (
        backend().await,
        azurite::container(false).await,
        tempfile::tempdir().unwrap(),
    );
    let cancel = CancellationToken::new();
    let progress: comfyui_api::storage::Progress = Arc::new({
        let cancel = cancel.clone();
        move |_, _| cancel.cancel()
    });
    let target = target(&container, "");
    let error = backend
        .upload(
            &target,
            &file(directory.path(), "x", &noise(40 << 20)),
            Some(&progress),
            &cancel,
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(
        backend
            .head(&source(&backend.url_of(&target, "x")))
            .await
            .unwrap_err()
            .kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn signatures_open_one_blob_in_every_spelling() {
    let (backend, container, directory) = (
        backend().await,
        azurite::container(false).await,
        tempfile::tempdir().unwrap(),
    );
    let target = target(&container, "a b/");
    put(&backend, &target, directory.path(), "é.png", b"signed").await;
    let signed = backend
        .sign(&target, "é.png", Duration::from_secs(600))
        .await
        .unwrap();
    assert!(
        signed.contains("sig=") && signed.contains("sp=r&"),
        "{signed}"
    );
    assert_eq!(
        reqwest::get(&signed).await.unwrap().text().await.unwrap(),
        "signed"
    );

    // The same through a backend that knows nothing of the account.
    let other = unconfigured();
    assert_eq!(
        read(other.open(&source(&signed), None, None).await.unwrap()).await,
        b"signed"
    );
    let whole = Url::parse(&signed).unwrap();
    let mut bare = whole.clone();
    bare.set_query(None);
    let mut source = source(bare.as_str());
    let error = other.head(&source).await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::NotFound),
        "{error}"
    );
    let query = |name: &str, value: &str| {
        Some(Auth::Query {
            query_param: name.to_owned(),
            query_value: Secret::new(value),
        })
    };
    for sas in [
        whole.query().unwrap().to_owned(),
        format!("?{}", whole.query().unwrap()),
    ] {
        source.auth = query("sas", &sas);
        assert_eq!(other.head(&source).await.unwrap().size, Some(6));
    }
    let signature = whole
        .query_pairs()
        .find(|(name, _)| name == "sig")
        .unwrap()
        .1
        .into_owned();
    bare.query_pairs_mut()
        .extend_pairs(whole.query_pairs().filter(|(name, _)| name != "sig"));
    source.url = bare;
    source.auth = query("sig", &signature);
    assert_eq!(
        read(other.open(&source, None, None).await.unwrap()).await,
        b"signed"
    );
    source.auth = query("sig", "bWFya2Vk");
    let error = other.head(&source).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Unauthorized && !error.message.contains("bWFya2Vk"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let x = file(directory.path(), "x", b"x");
    let error = backend
        .upload(
            &target("no-such-container", ""),
            &x,
            None,
            &CancellationToken::new(),
        )
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::NotFound && error.message.contains("container does not exist"),
        "{error}"
    );
    let error = unconfigured()
        .check(&target("container", ""), false)
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid
            && error.message.contains("AZURE_STORAGE_CONNECTION_STRING"),
        "{error}"
    );
    let text = format!(
        "BlobEndpoint={};SharedAccessSignature=sv=1&sig=marked",
        azurite::endpoint()
    );
    let with_sas = AzureBackend::new(
        &storage_config(&[("AZURE_STORAGE_CONNECTION_STRING", &text)]).azure,
        outbound(&[]),
    );
    with_sas
        .check(&target("container", ""), false)
        .await
        .unwrap();
    let error = with_sas
        .check(&target("container", ""), true)
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid
            && error.message.contains("AZURE_STORAGE_KEY")
            && !error.message.contains("marked"),
        "{error}"
    );
}
