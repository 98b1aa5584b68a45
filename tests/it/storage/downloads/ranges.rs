//! Files in parts: in parallel, resumed, and never of two versions.

use std::sync::Arc;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content};

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
