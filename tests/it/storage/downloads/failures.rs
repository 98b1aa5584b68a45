//! What is tried again, and what is given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfyui_api::storage::ErrorKind;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, impatient};

#[tokio::test]
async fn a_truncated_file_is_a_failure_and_leaves_nothing() {
    let origin = Origin::start(|_, _| Reply {
        cut_after: Some(1000),
        ..Reply::ok(vec![1; 5000])
    })
    .await;
    let bench = Bench::new(&[]).await;
    let error = bench
        .get(&origin.url("/short.bin?token=secret"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(
        error.message.contains("/short.bin") && !error.message.contains("secret"),
        "{error}"
    );
    assert_eq!(bench.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stalled_download_is_tried_again() {
    let body = content(100_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, before| Reply {
        stall_after: (before == 0).then_some(30_000),
        ..Reply::file(request, &served, "\"v\"")
    })
    .await;
    let bench = Bench::tuned(&[], impatient()).await;
    let fetched = bench.get(&origin.url("/stalling.bin")).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *body);
    assert_eq!(
        origin.requests()[1].range().map(|range| range.0),
        Some(30_000)
    );
}

#[tokio::test]
async fn statuses_that_may_pass_are_tried_again_and_retry_after_is_obeyed() {
    let origin = Origin::start(|_, before| match before {
        0 => Reply::status(503),
        1 => Reply::status(429).with("Retry-After", "1"),
        2 => Reply::status(408),
        _ => Reply::ok("fine"),
    })
    .await;
    let bench = Bench::new(&[]).await;
    let started = Instant::now();
    assert_eq!(
        bench.get(&origin.url("/flapping.txt")).await.unwrap().size,
        4
    );
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(origin.requests().len(), 4);
    for (status, kind, tries) in [
        (404, ErrorKind::NotFound, 1),
        (401, ErrorKind::Unauthorized, 1),
        (500, ErrorKind::Transient, 5),
        (418, ErrorKind::Failed, 1),
    ] {
        let origin = Origin::start(move |_, _| Reply::status(status)).await;
        assert_eq!(bench.get(&origin.url("/x")).await.unwrap_err().kind, kind);
        assert_eq!(origin.requests().len(), tries, "{status}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_fit_is_refused_before_it_is_fetched() {
    let origin = Origin::start(|_, _| Reply {
        claimed_length: Some(1 << 60),
        ..Reply::ok("x")
    })
    .await;
    let bench = Bench::new(&[]).await;
    let error = bench.get(&origin.url("/huge.bin")).await.unwrap_err();
    assert!(
        error.message.contains("disk is full")
            && error.message.contains(&(1_u64 << 60).to_string())
            && error.message.contains("bytes free"),
        "{error}"
    );
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(bench.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let origin = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_secs(600)),
        ..Reply::status(200)
    })
    .await;
    let bench = Bench::tuned(&[], impatient()).await;
    let error = bench.get(&origin.url("/silent.bin")).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Transient && error.message.contains("does not answer"),
        "{error}"
    );
}

/// A47: a cache folder that somebody removed is made again.
#[tokio::test]
async fn the_cache_folder_is_made_again() {
    let origin = Origin::start(|_, _| Reply::ok("x")).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", "1")]).await;
    let url = origin.url("/m.bin");
    bench.get(&url).await.unwrap();
    std::fs::remove_dir_all(&bench.cache).unwrap();
    let again = bench.get(&url).await.unwrap();
    assert!(!again.cached && again.path.exists());
    assert!(bench.get(&url).await.unwrap().cached);
}
