//! How a download runs: whole or not at all, however the origin behaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use comfyui_api::storage::{Auth, ErrorKind, Fetch};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, fetch, impatient, until};

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
async fn a_large_file_comes_in_parallel_ranges() {
    let body = content(5 << 20);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(64 << 10),
        ..Reply::file(request, &served, "\"v\"")
    })
    .await;
    let bench = Bench::new(&[("DOWNLOAD_CONNECTIONS", "4")]).await;
    let fetched = bench.get(&origin.url("/large.bin")).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *body);
    assert_eq!(origin.requests().len(), 4);
    assert!(origin.most_at_once() >= 3, "{}", origin.most_at_once());
    // A small one never does.
    let small =
        Origin::start(move |request, _| Reply::file(request, &content(1000), "\"v\"")).await;
    bench.get(&small.url("/small.bin")).await.unwrap();
    assert_eq!(small.requests().len(), 1);
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
async fn a_cut_off_download_is_resumed_where_it_broke_off() {
    let body = content(200_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, before| {
        let reply = Reply::file(request, &served, "\"v\"");
        Reply {
            cut_after: (before < 2).then_some(50_000),
            ..reply
        }
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench.get(&origin.url("/cut.bin")).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *body);
    let ranges: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| {
            (
                request.range().map(|range| range.0),
                request.header("if-range").map(str::to_owned),
            )
        })
        .collect();
    assert_eq!(
        ranges,
        [
            (None, None),
            (Some(50_000), Some("\"v\"".into())),
            (Some(100_000), Some("\"v\"".into()))
        ]
    );
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_anew() {
    let body = content(200_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |_, before| Reply {
        cut_after: (before == 0).then_some(50_000),
        body: Arc::clone(&served),
        ..Reply::status(200)
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench.get(&origin.url("/plain.bin")).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *body);
    assert!(
        origin
            .requests()
            .iter()
            .all(|request| request.range().is_none())
    );
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn content_that_changes_on_the_way_is_never_mixed() {
    let (old, new) = (content(3 << 20), Arc::new(vec![7_u8; 3 << 20]));
    let served = Arc::clone(&new);
    // The old version breaks off; a server that does not even mind If-Range serves ranges of the
    // new one, in parallel too.
    for connections in ["1", "4"] {
        let (old, served) = (Arc::clone(&old), Arc::clone(&served));
        let origin = Origin::start(move |request, before| match before {
            0 => Reply {
                cut_after: Some(100_000),
                ..Reply::file(request, &old, "\"old\"")
            },
            _ => {
                let mut careless = request.clone();
                careless.headers.remove("if-range");
                Reply::file(&careless, &served, "\"new\"")
            }
        })
        .await;
        let bench = Bench::new(&[("DOWNLOAD_CONNECTIONS", connections)]).await;
        let fetched = bench.get(&origin.url("/changing.bin")).await.unwrap();
        assert_eq!(std::fs::read(&fetched.path).unwrap(), *new, "{connections}");
    }
}

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
async fn a_promised_checksum_is_checked() {
    // SHA-256 of "hello".
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let origin = Origin::start(move |request, _| {
        let body = if request.target.contains("good") {
            "hello"
        } else {
            "hellO"
        };
        Reply::ok(body).with("X-Linked-Etag", format!("\"{sum}\""))
    })
    .await;
    let bench = Bench::new(&[]).await;
    let good = bench.get(&origin.url("/good.bin")).await.unwrap();
    assert!(
        std::fs::read_to_string(format!("{}.meta", good.path.display()))
            .unwrap()
            .contains(sum)
    );
    let error = bench.get(&origin.url("/bad.bin")).await.unwrap_err();
    assert!(error.message.contains(sum), "{error}");
    assert_eq!(bench.names().len(), 2);
}

/// `hello`, and what object stores say of it.
const HELLO: [(&str, &str); 3] = [
    ("x-amz-checksum-crc32", "NhCmhg=="),
    ("x-amz-checksum-crc32c", "mnG7TA=="),
    ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
];

fn s3(endpoint: &str) -> Auth {
    serde_json::from_value(serde_json::json!({
        "type": "s3",
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "eu-1",
        "endpoint": endpoint
    }))
    .unwrap()
}

#[tokio::test]
async fn the_checksums_of_object_stores_are_checked() {
    for (header, sum) in HELLO {
        // Wrong on the way once, then as it is.
        let origin = Origin::start(move |_, before| {
            Reply::ok(if before == 0 { "hellO" } else { "hello" })
                .with("ETag", "\"e\"")
                .with(header, sum)
        })
        .await;
        let bench = Bench::new(&[]).await;
        let fetched = bench
            .get_as("s3://bucket/key.bin", s3(&origin.url("")))
            .await
            .unwrap();
        assert_eq!(
            (
                std::fs::read(&fetched.path).unwrap(),
                origin.requests().len()
            ),
            (b"hello".to_vec(), 2),
            "{header}"
        );
        let liar =
            Origin::start(move |_, _| Reply::ok("hellO").with("ETag", "\"e\"").with(header, sum))
                .await;
        let error = bench
            .get_as("s3://bucket/key.bin", s3(&liar.url("")))
            .await
            .unwrap_err();
        assert!(error.message.contains("promised"), "{error}");
    }
}

#[tokio::test]
async fn the_same_bucket_and_key_at_another_service_is_another_file() {
    let one = Origin::start(|_, _| Reply::ok("one").with("ETag", "\"e\"")).await;
    let two = Origin::start(|_, _| Reply::ok("two").with("ETag", "\"e\"")).await;
    let bench = Bench::new(&[]).await;
    for (origin, text) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let fetched = bench
            .get_as("s3://bucket/key.bin", s3(&origin.url("")))
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(&fetched.path).unwrap(), text);
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_on_the_way_is_fetched_anew() {
    let (old, new) = (content(200_000), content(150_000));
    let served = Arc::clone(&new);
    let origin = Origin::start(move |request, before| match before {
        0 => Reply {
            cut_after: Some(50_000),
            ..Reply::file(request, &old, "\"old\"")
        },
        _ if request
            .header("if-match")
            .is_some_and(|wanted| wanted != "\"new\"") =>
        {
            Reply::status(412)
        }
        _ => Reply::file(request, &served, "\"new\""),
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench
        .get_as("s3://bucket/key.bin", s3(&origin.url("")))
        .await
        .unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *new);
}

#[tokio::test]
async fn what_is_sent_compressed_unasked_is_decompressed() {
    let body = content(300_000);
    let packed = {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &body).unwrap();
        packer.finish().unwrap()
    };
    let origin = Origin::start(move |_, before| {
        let reply = Reply::ok(packed.clone())
            .with("Content-Encoding", "gzip")
            .with("ETag", "\"e\"")
            .with("Accept-Ranges", "bytes");
        Reply {
            cut_after: (before == 0).then_some(1000),
            ..reply
        }
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench.get(&origin.url("/packed.bin")).await.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == *body && origin.requests().len() == 2);
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

#[tokio::test]
async fn a_file_that_shrinks_on_the_way_is_fetched_anew() {
    let (long, short) = (content(200_000), Arc::new(vec![9_u8; 10_000]));
    let served = Arc::clone(&short);
    let origin = Origin::start(move |request, before| match before {
        0 => Reply {
            cut_after: Some(50_000),
            ..Reply::file(request, &long, "\"long\"")
        },
        _ => {
            let mut careless = request.clone();
            careless.headers.remove("if-range");
            Reply::file(&careless, &served, "\"short\"")
        }
    })
    .await;
    let bench = Bench::new(&[]).await;
    let fetched = bench.get(&origin.url("/shrinking.bin")).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), *short);
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

/// A48: a part that does not say which version it is of proves nothing.
#[tokio::test]
async fn parts_without_proof_are_never_put_together() {
    let (old, new) = (content(3_000_000), content(3_000_001));
    let (old, new) = (Arc::new(old[..].to_vec()), Arc::new(new[1..].to_vec()));
    // (what the second answer tells, and whether the parts may be joined)
    for (told, joined) in [
        ("nothing", false),
        ("weak", false),
        ("another total", false),
        ("date", true),
        ("etag", true),
    ] {
        for parallel in [false, true] {
            let (first, second) = (
                Arc::clone(&old),
                Arc::clone(if joined { &old } else { &new }),
            );
            let origin = Origin::start(move |request, before| {
                let date = "Thu, 01 Jan 2026 00:00:00 GMT";
                let whole = request.range().is_none() || request.range() == Some((0, None));
                let body = if before == 0 { &first } else { &second };
                let mut careless = request.clone();
                careless.headers.remove("if-range");
                let mut reply =
                    Reply::file(&careless, body, if before == 0 { "\"v\"" } else { "\"w\"" });
                if before == 0 && told == "date" {
                    reply.headers.retain(|(name, _)| name != "ETag");
                    reply = reply.with("Last-Modified", date);
                }
                if before > 0 && !whole {
                    reply.headers.retain(|(name, _)| name != "ETag");
                    reply = match told {
                        "weak" => reply.with("ETag", "W/\"v\""),
                        "date" => reply.with("Last-Modified", date),
                        "etag" => reply.with("ETag", "\"v\""),
                        _ => reply,
                    };
                    if told == "another total" {
                        reply.headers.retain(|(name, _)| name != "Content-Range");
                        let (start, end) = request.range().unwrap();
                        let end = end.unwrap_or(body.len() - 1);
                        reply = reply
                            .with("ETag", "\"v\"")
                            .with("Content-Range", format!("bytes {start}-{end}/7777777"));
                    }
                }
                Reply {
                    cut_after: (before == 0).then_some(900_000),
                    ..reply
                }
            })
            .await;
            let connections = if parallel { "3" } else { "1" };
            let bench = Bench::new(&[("DOWNLOAD_CONNECTIONS", connections)]).await;
            let fetched = bench.get(&origin.url("/m.bin")).await.unwrap();
            let bytes = std::fs::read(&fetched.path).unwrap();
            let wanted = if joined { &old } else { &new };
            assert!(bytes == **wanted, "{told} {parallel}: mixed");
        }
    }
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
