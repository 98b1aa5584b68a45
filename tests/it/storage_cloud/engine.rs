//! The same backends below the engine: parallel ranges, verification, signed uploads, protected
//! files.

use comfyui_api::config::Secret;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::{Auth, ErrorKind, HfRepoType, HfTarget, Target};
use tokio_util::sync::CancellationToken;

use super::{file, noise};
use crate::support::hub::{Hub, TOKEN};
use crate::support::storage::{Bench, fetch};
use crate::support::{azurite, moto};

const LARGE: usize = 5 * 1024 * 1024 + 3;

/// Uploads and fetches large and small files through a storage; returns the signed URLs' contents.
async fn round_trip(bench: &Bench, target: &Target, signed: bool) {
    let directory = tempfile::tempdir().unwrap();
    let contents = [
        ("large 1.bin", noise(LARGE)),
        ("small.bin", noise(100)),
        ("empty.bin", Vec::new()),
    ];
    let files: Vec<_> = contents
        .iter()
        .map(|(name, bytes)| file(directory.path(), name, bytes))
        .collect();
    bench.storage.check_target(target, signed).await.unwrap();
    let uploaded = bench
        .storage
        .upload(target, &files, signed, None, &CancellationToken::new())
        .await
        .unwrap();
    for ((name, bytes), uploaded) in contents.iter().zip(uploaded) {
        let fetched = bench.storage.fetch(fetch(&uploaded.url)).await;
        if bytes.is_empty() {
            // F03: an empty object is no picture.
            assert!(fetched.unwrap_err().message.contains("empty"), "{name}");
            continue;
        }
        let fetched = fetched.unwrap();
        assert!(
            std::fs::read(&fetched.path).unwrap() == *bytes,
            "{name} from {}",
            uploaded.url
        );
        assert!(
            bench
                .storage
                .fetch(fetch(&uploaded.url))
                .await
                .unwrap()
                .cached
        );
        if let Some(url) = uploaded.signed_url {
            assert!(
                reqwest::get(url).await.unwrap().bytes().await.unwrap() == bytes.as_slice(),
                "{name}"
            );
        }
    }
}

async fn s3_variables() -> Vec<(&'static str, String)> {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let text = |text: &str| text.to_owned();
    vec![
        ("AWS_REGION", text("us-east-1")),
        ("AWS_ENDPOINT_URL", text(url)),
        ("AWS_ACCESS_KEY_ID", text("id")),
        ("AWS_SECRET_ACCESS_KEY", text("marked")),
    ]
}

async fn bench(variables: &[(&str, String)]) -> Bench {
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Bench::new(&variables).await
}

#[tokio::test]
async fn s3() {
    let bench = bench(&s3_variables().await).await;
    round_trip(
        &bench,
        &Target::S3 {
            bucket: moto::bucket().await,
            prefix: "a b/".to_owned(),
        },
        true,
    )
    .await;
}

#[tokio::test]
async fn azure() {
    let bench = bench(&[(
        "AZURE_STORAGE_CONNECTION_STRING",
        azurite::connection_string().await,
    )])
    .await;
    round_trip(
        &bench,
        &Target::Azure {
            container: azurite::container(false).await,
            blob_prefix: "/a b/".to_owned(),
        },
        true,
    )
    .await;
}

#[tokio::test]
async fn huggingface() {
    let hub = Hub::start().await;
    let bench = bench(&[
        ("HF_ENDPOINT", hub.url.clone()),
        ("HF_TOKEN", TOKEN.to_owned()),
    ])
    .await;
    let repository = HfTarget {
        repo: "owner/data".to_owned(),
        repo_type: HfRepoType::Dataset,
        revision: "main".to_owned(),
        directory: "a b".to_owned(),
    };
    let target = Target::HuggingFace(repository);
    round_trip(&bench, &target, false).await;
    assert_eq!(
        bench
            .storage
            .check_target(&target, true)
            .await
            .unwrap_err()
            .kind,
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn a_corrupted_copy_of_a_large_file_is_never_served() {
    let hub = Hub::start().await;
    hub.put("owner/model", "x.safetensors", &noise(LARGE), true);
    let oid = crate::support::hub::sha256(&noise(LARGE));
    hub.state().lfs.get_mut(&oid).unwrap()[LARGE / 2] ^= 1;
    let bench = bench(&[("HF_ENDPOINT", hub.url.clone())]).await;
    let url = format!("{}/owner/model/resolve/main/x.safetensors", hub.url);
    assert!(bench.get(&url).await.is_err());
    assert!(
        bench
            .names()
            .iter()
            .all(|name| !name.ends_with(".safetensors")),
        "{:?}",
        bench.names()
    );
    // The CDN has come to its senses.
    hub.state().lfs.get_mut(&oid).unwrap()[LARGE / 2] ^= 1;
    assert_eq!(
        std::fs::read(bench.get(&url).await.unwrap().path).unwrap(),
        noise(LARGE)
    );
}

#[tokio::test]
async fn a_protected_file_needs_credentials_again() {
    let hub = Hub::start().await;
    hub.put("owner/model", "x.safetensors", &noise(1000), true);
    hub.state()
        .repositories
        .get_mut("owner/model")
        .unwrap()
        .private = true;
    let bench = bench(&[("HF_ENDPOINT", hub.url.clone())]).await;
    let url = format!("{}/owner/model/resolve/main/x.safetensors", hub.url);
    let with = |token: &str| Auth::Bearer {
        token: Secret::new(token),
    };
    assert_eq!(
        bench.get(&url).await.unwrap_err().kind,
        ErrorKind::Unauthorized
    );
    assert!(!bench.get_as(&url, with(TOKEN)).await.unwrap().cached);
    let error = bench.get(&url).await.unwrap_err();
    assert!(
        error
            .message
            .contains("Authentication required to access cached file for URL"),
        "{error}"
    );
    assert!(bench.get_as(&url, with("wrong")).await.is_err());
    assert!(bench.get_as(&url, with(TOKEN)).await.unwrap().cached);
}

/// The list has all four backends, each asked in its turn.
#[tokio::test]
async fn backends_that_are_not_configured_stay_out_of_the_way() {
    let bench = bench(&[]).await;
    for (url, part) in [
        ("s3://bucket/key", "S3 is not configured"),
        ("https://acc.blob.core.windows.net/", "names no blob"),
    ] {
        let error = bench.get(url).await.unwrap_err();
        assert!(error.message.contains(part), "{url}: {error}");
    }
    let s3 = comfyui_api::storage::s3::S3Backend::new(
        &super::storage_config(&[]).s3,
        super::outbound(&[]),
    );
    assert!(!s3.claims(&url::Url::parse("https://bucket.s3.amazonaws.com/key").unwrap()));
}
