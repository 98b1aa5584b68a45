//! A12, A49: no client can use up what others need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfyui_api::storage::{Pace, Target, TransferSettings, UploadFile};
use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, hasty};

fn paced(window: u64, patience: u64) -> TransferSettings {
    let pace = Pace {
        window: Duration::from_millis(window),
        patience: Duration::from_millis(patience),
        ..Pace::default()
    };
    TransferSettings {
        pace,
        stall: Duration::from_secs(60),
        ..hasty()
    }
}

/// One byte every five milliseconds: 200 bytes in a second.
async fn drip() -> Origin {
    let body = content(100_000);
    Origin::start(move |_, _| Reply {
        trickle: Some(1),
        body: Arc::clone(&body),
        ..Reply::status(200)
    })
    .await
}

async fn quick() -> Origin {
    Origin::start(|_, _| Reply::ok("quick")).await
}

#[tokio::test]
async fn a_dozen_slow_servers_stop_nobody() {
    let (slow, other, good) = (drip().await, drip().await, quick().await);
    let bench = Bench::tuned(&[("MAX_CONCURRENT_DOWNLOADS", "4")], paced(60_000, 300)).await;
    let dripping = |n: usize| {
        let url = [&slow, &other][n % 2].url(&format!("/{n}.bin"));
        let storage = bench.storage.clone();
        tokio::spawn(async move { storage.fetch(crate::support::storage::fetch(&url)).await })
    };
    let all: Vec<_> = (0..12).map(dripping).collect();
    slow.wait_for(2).await;
    other.wait_for(2).await;
    let began = Instant::now();
    bench.get(&good.url("/x.bin")).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    all.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_slow_one_gives_its_place_back_and_a_drip_ends() {
    let (slow, good) = (drip().await, quick().await);
    let bench = Bench::tuned(&[("MAX_CONCURRENT_DOWNLOADS", "1")], paced(600, 60_000)).await;
    let storage = bench.storage.clone();
    let url = slow.url("/drip.bin");
    let dripping =
        tokio::spawn(async move { storage.fetch(crate::support::storage::fetch(&url)).await });
    slow.wait_for(1).await;
    bench.get(&good.url("/x.bin")).await.unwrap();
    let error = dripping.await.unwrap().unwrap_err();
    assert!(error.message.contains("bytes/s"), "{error}");
    assert_eq!(slow.requests().len(), 1, "it is not begun again");
}

#[tokio::test]
async fn uploads_to_one_who_reads_nothing_stop_nobody() {
    // Takes the connection, reads nothing, never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let good = Origin::start(|_, _| Reply::status(200)).await;
    let bench = Bench::tuned(&[("MAX_CONCURRENT_UPLOADS", "4")], paced(500, 300)).await;
    let path = bench.dir.path().join("file");
    std::fs::write(&path, vec![7; 24 << 20]).unwrap();
    // All of it fits into the buffers on the way: what is missing is the answer.
    let small = bench.dir.path().join("small");
    std::fs::write(&small, "small").unwrap();
    let upload = |prefix: String, n: usize| {
        let file = UploadFile {
            path: if n.is_multiple_of(2) {
                small.clone()
            } else {
                path.clone()
            },
            filename: format!("{n}.bin"),
            content_type: "image/png".to_owned(),
        };
        let storage = bench.storage.clone();
        async move {
            let target = Target::Http { url_prefix: prefix };
            let cancel = CancellationToken::new();
            storage.upload(&target, &[file], false, None, &cancel).await
        }
    };
    let stuck: Vec<_> = (0..12)
        .map(|n| tokio::spawn(upload(deaf.clone(), n)))
        .collect();
    let began = Instant::now();
    upload(good.url("/up"), 99).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    for one in stuck {
        let error = one.await.unwrap().unwrap_err();
        assert!(error.message.contains("bytes/s"), "{error}");
    }
}
