//! One download for all who want the file, its progress, and how many run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use comfyui_api::storage::{ErrorKind, Fetch};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, fetch, until};

#[tokio::test]
async fn a_file_is_fetched_once_and_served_from_the_cache_afterwards() {
    let body = content(100_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, _| Reply::file(request, &served, "\"one\"")).await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/dir/model%20one.safetensors?token=secret&type=Model");
    let first = bench.get(&url).await.unwrap();
    assert_eq!(
        (first.cached, first.size, first.origin_name.as_str()),
        (false, 100_000, "model one.safetensors")
    );
    assert_eq!(std::fs::read(&first.path).unwrap(), *body);
    let second = bench.get(&url).await.unwrap();
    assert!(second.cached && second.path == first.path);
    assert_eq!(origin.requests().len(), 1);
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{}.meta", first.path.display())).unwrap())
            .unwrap();
    assert_eq!(meta["authRequired"], false);
    assert_eq!(
        meta["url"],
        origin.url("/dir/model%20one.safetensors?type=Model")
    );
    assert_eq!(
        (&meta["etag"], &meta["size"]),
        (&"\"one\"".into(), &100_000.into())
    );
    assert!(meta["cachedAt"].as_str().unwrap().ends_with('Z'));
    let path = first.path.clone();
    drop(first);
    // Nobody has placed it, so it is where it was cached (D11).
    let events = bench.events("file_downloaded");
    assert_eq!(
        (events.len(), &events[0]["size"], &events[0]["local_path"]),
        (1, &100_000.into(), &path.to_str().unwrap().into())
    );
    assert!(!events[0]["url"].as_str().unwrap().contains("secret"));
    assert_eq!(bench.names().len(), 2, "{:?}", bench.names());
}

#[tokio::test]
async fn sixty_four_requests_are_one_download() {
    let body = content(300_000);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(20_000),
        ..Reply::file(request, &body, "\"v\"")
    })
    .await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/popular.bin");
    let fetched = join_all((0..64).map(|_| bench.get(&url))).await;
    assert!(
        fetched
            .iter()
            .all(|fetched| fetched.as_ref().unwrap().size == 300_000)
    );
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn one_who_leaves_does_not_stop_the_others_and_the_last_one_does() {
    let body = content(400_000);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(4_000),
        ..Reply::file(request, &body, "\"v\"")
    })
    .await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/left.bin");
    let leaver = CancellationToken::new();
    let leaving = bench.storage.fetch(Fetch {
        cancel: leaver.clone(),
        ..fetch(&url)
    });
    let staying = bench.get(&url);
    let cancel = async {
        origin.wait_for(1).await;
        leaver.cancel();
    };
    let (left, stayed, ()) = tokio::join!(leaving, staying, cancel);
    assert_eq!(left.unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(stayed.unwrap().size, 400_000);

    let url = origin.url("/abandoned.bin");
    let leaver = CancellationToken::new();
    let leaving = bench.storage.fetch(Fetch {
        cancel: leaver.clone(),
        ..fetch(&url)
    });
    let cancel = async {
        origin.wait_for(2).await;
        leaver.cancel();
    };
    assert!(tokio::join!(leaving, cancel).0.is_err());
    until("the abandoned download stops", || origin.open_now() == 0).await;
    until("its partial file is gone", || {
        bench.names().iter().all(|name| !name.ends_with(".partial"))
    })
    .await;
}

#[tokio::test]
async fn progress_is_told() {
    let body = content(400_000);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(4_000),
        ..Reply::file(request, &body, "\"v\"")
    })
    .await;
    let bench = Bench::new(&[]).await;
    let told = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&told);
    let progress = Arc::new(move |_, total| {
        assert_eq!(total, Some(400_000));
        counting.fetch_add(1, Ordering::SeqCst);
    });
    bench
        .storage
        .fetch(Fetch {
            progress: Some(progress),
            ..fetch(&origin.url("/told.bin"))
        })
        .await
        .unwrap();
    assert!(told.load(Ordering::SeqCst) > 5);
}

#[tokio::test]
async fn downloads_at_once_are_limited() {
    let origin = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_millis(20)),
        ..Reply::ok("x")
    })
    .await;
    let bench = Bench::new(&[("MAX_CONCURRENT_DOWNLOADS", "2")]).await;
    let urls: Vec<String> = (0..10).map(|n| origin.url(&format!("/{n}.bin"))).collect();
    assert!(
        join_all(urls.iter().map(|url| bench.get(url)))
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert!(origin.most_at_once() <= 2);
    assert_eq!(origin.requests().len(), 10);
}
