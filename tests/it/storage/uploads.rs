//! Uploads over HTTP, and the engine that all backends share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfyui_api::storage::{ErrorKind, Target, UploadFile};
use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::Bench;

fn target(origin: &Origin, path: &str) -> Target {
    Target::Http {
        url_prefix: origin.url(path),
    }
}

fn file(bench: &Bench, name: &str, content: &str) -> UploadFile {
    let path = bench.dir.path().join(uuid::Uuid::new_v4().to_string());
    std::fs::write(&path, content).unwrap();
    UploadFile {
        path,
        filename: name.to_owned(),
        content_type: "image/png".to_owned(),
    }
}

#[tokio::test]
async fn files_are_put_below_the_prefix() {
    let origin = Origin::start(|_, _| Reply::status(201)).await;
    let bench = Bench::new(&[
        ("HTTP_AUTH_HEADER_NAME", "X-Key"),
        ("HTTP_AUTH_HEADER_VALUE", "k"),
    ])
    .await;
    let files: Vec<_> = (0..5)
        .map(|n| {
            file(
                &bench,
                &format!("dir/out {n}#.png"),
                &format!("content {n}"),
            )
        })
        .collect();
    let seen = Arc::new(Mutex::new((0, None)));
    let told = Arc::clone(&seen);
    let progress = Arc::new(move |done, total| *told.lock().unwrap() = (done, total));
    let uploaded = bench
        .storage
        .upload(
            &target(&origin, "/up/"),
            &files,
            false,
            Some(progress),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    for (n, done) in uploaded.iter().enumerate() {
        assert_eq!(
            (done.url.clone(), done.size, done.signed_url.clone()),
            (origin.url(&format!("/up/dir/out%20{n}%23.png")), 9, None)
        );
    }
    let request = origin
        .requests()
        .into_iter()
        .find(|request| request.target == "/up/dir/out%203%23.png")
        .unwrap();
    assert_eq!(
        (request.method.as_str(), request.body.as_slice()),
        ("PUT", &b"content 3"[..])
    );
    assert_eq!(
        (
            request.header("content-type"),
            request.header("content-length"),
            request.header("x-key")
        ),
        (Some("image/png"), Some("9"), Some("k"))
    );
    assert!(request.header("transfer-encoding").is_none());
    assert_eq!(*seen.lock().unwrap(), (45, Some(45)));
    let events = bench.events("file_uploaded");
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["size"] == 9
        && event["duration"].is_f64()
        && event["local_path"].is_string()));
}

#[tokio::test]
async fn failures_are_tried_again_and_then_are_failures() {
    let origin =
        Origin::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    let bench = Bench::new(&[]).await;
    let files = [file(&bench, "a.png", "a")];
    assert!(
        bench
            .storage
            .upload(
                &target(&origin, "/up"),
                &files,
                false,
                None,
                &CancellationToken::new()
            )
            .await
            .is_ok()
    );
    assert_eq!(
        origin
            .requests()
            .iter()
            .map(|request| request.body.len())
            .collect::<Vec<_>>(),
        [1, 1]
    );
    for (status, tries) in [(500, 5), (403, 1), (302, 1)] {
        let origin = Origin::start(move |_, _| Reply::status(status)).await;
        let prefix = format!("http://me:marked@127.0.0.1:{}/up", origin.port);
        let error = bench
            .storage
            .upload(
                &Target::Http { url_prefix: prefix },
                &files,
                false,
                None,
                &CancellationToken::new(),
            )
            .await
            .unwrap_err();
        assert!(
            error.message.contains("/up/a.png") && !error.message.contains("marked"),
            "{error}"
        );
        assert_eq!(origin.requests().len(), tries, "{status}");
        assert_eq!(
            origin.requests()[0].header("authorization"),
            Some("Basic bWU6bWFya2Vk")
        );
    }
}

#[tokio::test]
async fn the_newest_upload_to_a_url_wins() {
    let origin = Origin::start(|request, _| Reply {
        delay: Some(Duration::from_millis(if request.body == b"old" {
            3000
        } else {
            0
        })),
        ..Reply::status(200)
    })
    .await;
    let bench = Bench::new(&[]).await;
    let (old, new) = (
        [file(&bench, "a.png", "old")],
        [file(&bench, "a.png", "new")],
    );
    let (target, token) = (target(&origin, "/up"), CancellationToken::new());
    let newer = async {
        origin.wait_for(1).await;
        bench
            .storage
            .upload(&target, &new, false, None, &token)
            .await
    };
    let (first, second) = tokio::join!(
        bench.storage.upload(&target, &old, false, None, &token),
        newer
    );
    assert_eq!(first.unwrap_err().kind, ErrorKind::Cancelled);
    assert!(second.is_ok());
}

#[tokio::test]
async fn uploads_are_limited_and_can_be_cancelled() {
    let origin = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_millis(20)),
        ..Reply::status(200)
    })
    .await;
    let bench = Bench::new(&[("MAX_CONCURRENT_UPLOADS", "2")]).await;
    let files: Vec<_> = (0..8)
        .map(|n| file(&bench, &format!("{n}.png"), "x"))
        .collect();
    bench
        .storage
        .upload(
            &target(&origin, "/up"),
            &files,
            false,
            None,
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    assert!(origin.most_at_once() <= 2 && origin.requests().len() == 8);
    let slow = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_secs(30)),
        ..Reply::status(200)
    })
    .await;
    let (token, slow_target) = (CancellationToken::new(), target(&slow, "/up"));
    let cancel = async {
        slow.wait_for(1).await;
        token.cancel();
    };
    let (cancelled, ()) = tokio::join!(
        bench
            .storage
            .upload(&slow_target, &files, false, None, &token),
        cancel
    );
    assert_eq!(cancelled.unwrap_err().kind, ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_target_is_checked_before_anything_runs() {
    let bench = Bench::new(&[]).await;
    for url_prefix in ["nonsense", "ftp://h/x", "/up"] {
        let error = bench
            .storage
            .check_target(
                &Target::Http {
                    url_prefix: url_prefix.to_owned(),
                },
                false,
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    let fine = Target::Http {
        url_prefix: "http://127.0.0.1:1/up".to_owned(),
    };
    assert!(bench.storage.check_target(&fine, false).await.is_ok());
    assert!(
        bench
            .storage
            .check_target(&fine, true)
            .await
            .unwrap_err()
            .message
            .contains("signed_url")
    );
}

/// F06: the name goes to the end of the path, the query stays behind it, and no secret of it is
/// shown.
#[tokio::test]
async fn a_prefix_may_have_a_query() {
    let origin = Origin::start(|_, _| Reply::status(201)).await;
    let bench = Bench::new(&[]).await;
    for (prefix, put, shown) in [
        (
            "/up?token=abc",
            "/up/a%20%23.png?token=abc",
            "/up/a%20%23.png",
        ),
        (
            "/up/?sig=a%2Fb&v=1",
            "/up/a%20%23.png?sig=a%2Fb&v=1",
            "/up/a%20%23.png?v=1",
        ),
        ("?x=1", "/a%20%23.png?x=1", "/a%20%23.png"),
        (
            "/with%20space//",
            "/with%20space/a%20%23.png",
            "/with%20space/a%20%23.png",
        ),
    ] {
        let files = [file(&bench, "a #.png", "content")];
        let uploaded = bench
            .storage
            .upload(
                &target(&origin, prefix),
                &files,
                false,
                None,
                &CancellationToken::new(),
            )
            .await
            .unwrap();
        assert_eq!(uploaded[0].url, origin.url(shown), "{prefix}");
        assert_eq!(origin.requests().pop().unwrap().target, put, "{prefix}");
    }
    for (prefix, said) in [
        ("http://h/up#part", "%23"),
        ("", "http"),
        ("/relative", "http"),
        ("ftp://h/", "http"),
    ] {
        let target = Target::Http {
            url_prefix: prefix.to_owned(),
        };
        let error = bench
            .storage
            .check_target(&target, false)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{prefix}");
        assert!(error.message.contains(said), "{error}");
    }
}
