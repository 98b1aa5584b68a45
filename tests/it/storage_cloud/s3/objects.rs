//! Objects as files: in both directions, in parts, under every spelling.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfyui_api::storage::backend::Backend;
use comfyui_api::storage::s3::S3Backend;
use comfyui_api::storage::{ErrorKind, Progress};
use tokio_util::sync::CancellationToken;

use super::{backend, target};
use crate::storage_cloud::{
    comes_back, file, gives_ranges, noise, outbound, read, source, storage_config,
};
use crate::support::moto;

#[tokio::test]
async fn files_come_back_under_the_url_that_was_promised() {
    let (backend, bucket) = (backend().await, moto::bucket().await);
    for (prefix, name, bytes) in [
        ("a b/", "c+d é.png", noise(100_000)),
        ("", "100% sure.png", b"x".to_vec()),
        ("what?", "is#this", noise(5)),
        ("empty/", "file", Vec::new()),
    ] {
        let target = target(&bucket, prefix);
        backend.check(&target, true).await.unwrap();
        let url = comes_back(&backend, &target, name, &bytes).await;
        assert_eq!(url, format!("s3://{bucket}/{prefix}{name}"));
    }
}

#[tokio::test]
async fn ranges_and_validators() {
    let (backend, bucket) = (backend().await, moto::bucket().await);
    gives_ranges(&backend, &target(&bucket, ""), "\"other\"").await;
}

#[tokio::test]
async fn large_files_go_in_parts_and_report_progress() {
    let (backend, bucket, directory) = (
        backend().await,
        moto::bucket().await,
        tempfile::tempdir().unwrap(),
    );
    let (target, bytes) = (target(&bucket, "big/"), noise(40 * 1024 * 1024 + 17));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let progress: Progress = Arc::new({
        let seen = seen.clone();
        move |now, all| seen.lock().unwrap().push((now, all))
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
    let source = source(&backend.url_of(&target, "x"));
    let etag = backend.head(&source).await.unwrap().etag.unwrap();
    assert!(etag.ends_with("-3\""), "three parts, not {etag}");
    assert!(read(backend.open(&source, None, None).await.unwrap()).await == bytes);
    let seen = seen.lock().unwrap();
    // Told while the parts leave, not only when they have.
    assert!(seen.len() > 3, "{}", seen.len());
    assert_eq!(
        *seen.last().unwrap(),
        (bytes.len() as u64, Some(bytes.len() as u64))
    );
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing() {
    let (backend, bucket, directory) = (
        backend().await,
        moto::bucket().await,
        tempfile::tempdir().unwrap(),
    );
    for by_drop in [false, true] {
        let cancel = CancellationToken::new();
        let (started, mut was_started) = tokio::sync::mpsc::unbounded_channel();
        let progress: Progress = Arc::new({
            let cancel = cancel.clone();
            move |_, _| {
                let _ = started.send(());
                if !by_drop {
                    cancel.cancel();
                }
            }
        });
        let (target, file) = (
            target(&bucket, ""),
            file(directory.path(), "x", &noise(80 * 1024 * 1024)),
        );
        let upload = backend.upload(&target, &file, Some(&progress), &cancel);
        if by_drop {
            tokio::select! {
                result = upload => panic!("it was to be dropped: {result:?}"),
                _ = was_started.recv() => {}
            }
        } else {
            assert_eq!(upload.await.unwrap_err().kind, ErrorKind::Cancelled);
        }
        let deadline = Instant::now() + Duration::from_secs(90);
        while moto::get(&format!("{bucket}?uploads"))
            .await
            .contains("<UploadId>")
        {
            assert!(
                Instant::now() < deadline,
                "the multipart upload is still there, by drop: {by_drop}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            backend
                .head(&source(&backend.url_of(&target, "x")))
                .await
                .unwrap_err()
                .kind,
            ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let error = backend
        .upload(
            &target("no-such-bucket-here", ""),
            &file(directory.path(), "x", b"x"),
            None,
            &CancellationToken::new(),
        )
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::NotFound
            && error.message.contains("no-such-bucket-here")
            && error.message.contains("bucket does not exist"),
        "{error}"
    );
    let bucket = moto::bucket().await;
    for error in [
        backend
            .head(&source(&format!("s3://{bucket}/x")))
            .await
            .err(),
        backend
            .open(&source(&format!("s3://{bucket}/x")), None, None)
            .await
            .err(),
    ] {
        assert_eq!(error.unwrap().kind, ErrorKind::NotFound);
    }
    let bare = S3Backend::new(&storage_config(&[]).s3, outbound(&[]));
    let error = bare.check(&target("bucket", ""), false).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid
            && error
                .message
                .contains("S3 is not configured: set AWS_REGION"),
        "{error}"
    );
}

/// F07, D21: the URL that is given out is the key as it is, and finds the object again; so do the
/// other spellings of keys that are stored percent-encoded or decoded.
#[tokio::test]
async fn every_spelling_of_a_key_finds_its_object() {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let bench = crate::support::storage::Bench::new(&[
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_S3", url),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "marked"),
    ])
    .await;
    let (bucket, directory) = (moto::bucket().await, tempfile::tempdir().unwrap());
    for (prefix, name) in [
        ("my outputs/", "ü+1 %20.png"),
        ("a?b=c#d/", "e?f#g 100%.png"),
        ("p%2Fq/", "x.png"),
    ] {
        let files = [file(directory.path(), name, name.as_bytes())];
        let uploaded = bench
            .storage
            .upload(
                &target(&bucket, prefix),
                &files,
                false,
                None,
                &CancellationToken::new(),
            )
            .await
            .unwrap();
        assert_eq!(uploaded[0].url, format!("s3://{bucket}/{prefix}{name}"));
        assert_eq!(
            bench.events("file_uploaded").pop().unwrap()["url"],
            uploaded[0].url
        );
        let fetched = bench.get(&uploaded[0].url).await.unwrap();
        assert_eq!(std::fs::read_to_string(fetched.path).unwrap(), name);
    }
    // What the Node server stored, asked for raw; and what is stored raw, asked for encoded.
    for (stored, asked) in [("a%20b.bin", "a b.bin"), ("c d.bin", "c%20d.bin")] {
        let files = [file(directory.path(), stored, stored.as_bytes())];
        let there = target(&bucket, "k/");
        let cancel = CancellationToken::new();
        bench
            .storage
            .upload(&there, &files, false, None, &cancel)
            .await
            .unwrap();
        let fetched = bench
            .get(&format!("s3://{bucket}/k/{asked}"))
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(fetched.path).unwrap(), stored);
    }
    let error = bench
        .get(&format!("s3://{bucket}/no such thing"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}
