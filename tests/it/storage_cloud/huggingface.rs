//! Against the stand-in hub, which the public Python client uses too.

use std::process::Stdio;

use comfyui_api::config::Secret;
use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::huggingface::HuggingFaceBackend;
use comfyui_api::storage::{Auth, ErrorKind, HfRepoType, HfTarget, Target};
use tokio_util::sync::CancellationToken;

use super::{file, noise, outbound, range, read, source, storage_config};
use crate::support::hub::{CHUNK, Hub, TOKEN, sha256};
use crate::support::peer_process::python;

pub(super) fn backend(hub: &Hub, token: Option<&str>) -> HuggingFaceBackend {
    let mut variables = vec![("HF_ENDPOINT", hub.url.as_str())];
    variables.extend(token.map(|token| ("HF_TOKEN", token)));
    HuggingFaceBackend::new(&storage_config(&variables).hf, outbound(&variables))
}

pub(super) fn target(repo_type: HfRepoType, directory: &str) -> HfTarget {
    let repo = if repo_type == HfRepoType::Model {
        "owner/model"
    } else {
        "owner/data"
    };
    HfTarget {
        repo: repo.to_owned(),
        repo_type,
        revision: "main".to_owned(),
        directory: directory.to_owned(),
    }
}

#[tokio::test]
async fn large_files_come_from_the_cdn_without_the_token() {
    let hub = Hub::start().await;
    let bytes = noise(300_000);
    hub.put("owner/model", "a b/é.safetensors", &bytes, true);
    hub.state()
        .repositories
        .get_mut("owner/model")
        .unwrap()
        .private = true;
    let backend = backend(&hub, Some(TOKEN));
    let oid = sha256(&bytes);
    for page in ["resolve", "blob"] {
        // A URL of the public hub is asked of the configured one.
        for base in [hub.url.as_str(), "https://huggingface.co"] {
            let source = source(&format!(
                "{base}/owner/model/{page}/main/a%20b/%C3%A9.safetensors?download=true"
            ));
            assert!(backend.claims(&source.url));
            let info = backend.head(&source).await.unwrap();
            assert_eq!(
                (info.size, info.sha256.as_deref(), info.ranges),
                (Some(300_000), Some(oid.as_str()), true)
            );
            let stream = backend.open(&source, None, None).await.unwrap();
            assert_eq!(
                (
                    stream.info.size,
                    stream.info.sha256.as_deref(),
                    stream.offset
                ),
                (Some(300_000), Some(oid.as_str()), 0)
            );
            assert!(read(stream).await == bytes);
            let stream = backend
                .open(&source, range(1000, 1999), info.etag.as_deref())
                .await
                .unwrap();
            assert_eq!((stream.info.size, stream.offset), (Some(300_000), 1000));
            assert!(read(stream).await == bytes[1000..2000]);
            // The file is another one by now: all of it comes.
            let stream = backend
                .open(&source, range(1000, 1999), Some("\"other\""))
                .await
                .unwrap();
            assert_eq!((stream.offset, read(stream).await.len()), (0, 300_000));
        }
    }
    let seen = hub.state().seen.clone();
    assert!(seen.iter().any(|seen| seen.origin == "cdn"));
    for seen in seen {
        assert_eq!(
            seen.authorization.is_some(),
            seen.origin == "hub",
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn small_files_come_from_the_hub_itself() {
    let hub = Hub::start().await;
    hub.put("datasets/owner/data", "config.json", b"{\"a\": 1}", false);
    let backend = backend(&hub, None);
    let source = source(&format!(
        "{}/datasets/owner/data/resolve/main/config.json",
        hub.url
    ));
    let info = backend.head(&source).await.unwrap();
    assert_eq!((info.size, info.sha256.as_deref()), (Some(8), None));
    let stream = backend
        .open(&source, range(1, 3), info.etag.as_deref())
        .await
        .unwrap();
    assert_eq!((stream.offset, stream.info.size), (1, Some(8)));
    assert_eq!(read(stream).await, b"\"a\"");
    let stream = backend
        .open(&source, range(1, 3), Some("\"other\""))
        .await
        .unwrap();
    assert_eq!((stream.offset, read(stream).await.len()), (0, 8));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let hub = Hub::start().await;
    hub.put("owner/model", "x.bin", b"x", false);
    let url = format!("{}/owner/model/resolve/main/x.bin", hub.url);
    hub.state()
        .repositories
        .get_mut("owner/model")
        .unwrap()
        .private = true;
    let open = async |token: Option<&str>, url: &str| {
        backend(&hub, token)
            .open(&source(url), None, None)
            .await
            .err()
            .unwrap()
    };
    let error = open(None, &url).await;
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(
        error.message.contains("HF_TOKEN")
            && error.message.contains(&format!("{}/owner/model", hub.url)),
        "{error}"
    );
    let error = open(Some("hf_wrong_marked"), &url).await;
    assert!(
        error.kind == ErrorKind::Unauthorized && !error.message.contains("hf_wrong_marked"),
        "{error}"
    );
    // Credentials of the request replace the operator's.
    let mut with_auth = source(&url);
    with_auth.auth = Some(Auth::Bearer {
        token: Secret::new(TOKEN),
    });
    assert_eq!(
        read(
            backend(&hub, Some("hf_wrong_marked"))
                .open(&with_auth, None, None)
                .await
                .unwrap()
        )
        .await,
        b"x"
    );
    hub.state()
        .repositories
        .get_mut("owner/model")
        .unwrap()
        .gated = true;
    let error = open(Some(TOKEN), &url).await;
    assert!(
        error.kind == ErrorKind::Unauthorized
            && error.message.contains("gated")
            && error.message.contains("HF_TOKEN"),
        "{error}"
    );
    assert_eq!(
        backend(&hub, Some(TOKEN))
            .head(&source(&url))
            .await
            .unwrap_err()
            .kind,
        ErrorKind::Unauthorized
    );
    hub.state()
        .repositories
        .get_mut("owner/model")
        .unwrap()
        .gated = false;
    for (path, part) in [
        ("resolve/main/none.bin", "no such file"),
        ("resolve/nowhere/x.bin", "revision"),
    ] {
        let error = open(Some(TOKEN), &format!("{}/owner/model/{path}", hub.url)).await;
        assert!(
            error.kind == ErrorKind::NotFound && error.message.contains(part),
            "{error}"
        );
    }
}

/// What the stand-in takes from the public client, and gives to it, is the hub's protocol.
#[tokio::test]
async fn the_public_python_client_agrees_with_the_stand_in() {
    const SCRIPT: &str = r#"
import sys, json
from huggingface_hub import HfApi, CommitOperationAdd, hf_hub_download
directory, token = sys.argv[1], sys.argv[2]
api = HfApi(token=token)
for kind, repo in (("model", "owner/model"), ("dataset", "owner/data")):
    for name in ("text.json", "small.png", "big.png"):
        got = hf_hub_download(repo, "ours/" + name, repo_type=kind, token=token, local_dir=directory + "/down-" + kind)
        assert open(got, "rb").read() == open(directory + "/" + name, "rb").read(), name
    operations = [CommitOperationAdd("theirs/" + name, directory + "/" + name) for name in ("text.json", "small.png", "fresh-" + kind + ".png")]
    api.create_commit(repo, operations, commit_message="theirs", repo_type=kind)
print("agreed")
"#;
    let (hub, directory) = (Hub::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&hub, Some(TOKEN));
    let contents = [
        ("text.json", b"{}".to_vec()),
        ("small.png", noise(1000)),
        ("big.png", noise(2 * CHUNK + 77)),
        ("fresh-model.png", noise(CHUNK + 1)),
        ("fresh-dataset.png", noise(2000)),
    ];
    for (name, bytes) in &contents {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    for repo_type in [HfRepoType::Model, HfRepoType::Dataset] {
        let files: Vec<_> = contents[..3]
            .iter()
            .map(|(name, bytes)| file(directory.path(), name, bytes))
            .collect();
        let target = Target::HuggingFace(target(repo_type, "ours"));
        backend
            .upload_together(&target, &files, None, &CancellationToken::new())
            .await
            .unwrap();
    }
    assert!(
        python().exists(),
        "{} is missing; install PyPI huggingface_hub",
        python().display()
    );
    let output = tokio::process::Command::new(python())
        .args(["-c", SCRIPT, directory.path().to_str().unwrap(), TOKEN])
        .env("HF_ENDPOINT", &hub.url)
        .env("HF_HOME", directory.path().join("home"))
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), output)
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for (repository, fresh) in [("owner/model", 3), ("datasets/owner/data", 4)] {
        for (name, bytes) in [&contents[0], &contents[1], &contents[fresh]] {
            let path = format!("theirs/{name}");
            assert!(
                hub.content(repository, &path).as_ref() == Some(bytes),
                "{path}"
            );
            let url = format!("{}/{repository}/resolve/main/{path}", hub.url);
            assert!(
                read(backend.open(&source(&url), None, None).await.unwrap()).await == *bytes,
                "{path}"
            );
        }
    }
}
