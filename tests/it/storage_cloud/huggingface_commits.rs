//! Uploads to the Hugging Face hub are commits.

use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::{ErrorKind, HfRepoType, HfTarget, Target};
use tokio_util::sync::CancellationToken;

use super::huggingface::{backend, target};
use super::{file, noise, read, source};
use crate::support::hub::{CHUNK, Hub, TOKEN};

#[tokio::test]
async fn the_files_of_a_prompt_are_one_commit() {
    let (hub, directory) = (Hub::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&hub, Some(TOKEN));
    for (repo_type, repository) in [
        (HfRepoType::Model, "owner/model"),
        (HfRepoType::Dataset, "datasets/owner/data"),
    ] {
        let target = Target::HuggingFace(target(repo_type, "/out puts/"));
        backend.check(&target, false).await.unwrap();
        let contents = [
            ("text.json", b"{}".repeat(400_001)),
            ("empty.txt", Vec::new()),
            ("small é.png", noise(1000)),
            ("big.png", noise(2 * CHUNK + 77)),
        ];
        let files: Vec<_> = contents
            .iter()
            .map(|(name, bytes)| file(directory.path(), name, bytes))
            .collect();
        backend
            .upload_together(&target, &files, None, &CancellationToken::new())
            .await
            .unwrap();
        for (name, bytes) in &contents {
            assert!(
                hub.content(repository, &format!("out puts/{name}"))
                    .as_ref()
                    == Some(bytes),
                "{name}"
            );
            let stream = backend
                .open(&source(&backend.url_of(&target, name)), None, None)
                .await
                .unwrap();
            assert!(read(stream).await == *bytes, "{name}");
        }
        // Again: the objects are in LFS by now and are not sent a second time.
        backend
            .upload_together(&target, &files, None, &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(
            hub.state().repositories[repository]
                .commits
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [4, 4]
        );
    }
    let uploads = hub
        .state()
        .seen
        .iter()
        .filter(|seen| seen.method == "PUT")
        .count();
    assert_eq!(
        uploads,
        1 + 3,
        "one small object, one in three parts; the dataset finds them in place"
    );
}

#[tokio::test]
async fn refused_uploads_say_why() {
    let (hub, directory) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (with_token, without) = (backend(&hub, Some(TOKEN)), backend(&hub, None));
    let plain = Target::HuggingFace(target(HfRepoType::Model, ""));
    let error = without.check(&plain, false).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid && error.message.contains("HF_TOKEN"),
        "{error}"
    );
    assert_eq!(
        with_token.check(&plain, true).await.unwrap_err().kind,
        ErrorKind::Invalid
    );
    let upload = async |target: &Target, name: &str| {
        let x = file(directory.path(), name, b"x");
        with_token
            .upload(target, &x, None, &CancellationToken::new())
            .await
            .unwrap_err()
    };
    let elsewhere = Target::HuggingFace(HfTarget {
        revision: "no/branch".to_owned(),
        ..target(HfRepoType::Model, "")
    });
    let error = upload(&elsewhere, "x").await;
    assert!(
        error.kind == ErrorKind::NotFound && error.message.contains("revision does not exist"),
        "{error}"
    );
    let error = upload(&plain, "x.ignored").await;
    assert!(
        error.kind == ErrorKind::Failed && error.message.contains(".gitignore"),
        "{error}"
    );
    for status in [409, 412, 429, 500, 503] {
        hub.state().commit_faults.push(status);
        let error = upload(&plain, "x").await;
        assert!(
            error.kind == ErrorKind::Transient && error.message.contains(&status.to_string()),
            "{error}"
        );
        assert!(!error.message.contains(TOKEN));
    }
    let denied = backend(&hub, Some("hf_wrong_marked"))
        .upload(
            &plain,
            &file(directory.path(), "x", b"x"),
            None,
            &CancellationToken::new(),
        )
        .await;
    let denied = denied.unwrap_err();
    assert!(
        denied.kind == ErrorKind::Unauthorized
            && denied.message.contains("HF_TOKEN")
            && !denied.message.contains("hf_wrong_marked"),
        "{denied}"
    );
}

#[tokio::test]
async fn a_cancelled_upload_commits_nothing() {
    let (hub, directory) = (Hub::start().await, tempfile::tempdir().unwrap());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let target = Target::HuggingFace(target(HfRepoType::Model, ""));
    let x = file(directory.path(), "x", b"x");
    let error = backend(&hub, Some(TOKEN))
        .upload_together(&target, &[x], None, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert!(hub.state().repositories["owner/model"].commits.is_empty());
}
