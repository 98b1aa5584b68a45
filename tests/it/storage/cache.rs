//! The cache directory: the Node server's files, protected files, use, eviction.

use std::path::Path;
use std::sync::Arc;

use comfyui_api::storage::ErrorKind;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, bearer, content, fetch_with, hasty};

/// The name of the specification, computed on its own.
pub(super) fn base(url: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE.encode(Sha256::digest(url))[..32].to_owned()
}

pub(super) fn meta(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(format!("{}.meta", file.display())).unwrap()).unwrap()
}

async fn nobody() -> Origin {
    Origin::start(|_, _| Reply::status(500)).await
}

#[tokio::test]
async fn a_directory_of_the_node_server_is_used_as_it_is() {
    let origin = nobody().await;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let (plain, described, nameless) = (
        origin.url("/a.safetensors"),
        origin.url("/b.png"),
        origin.url("/download?id=3"),
    );
    std::fs::write(cache.join(base(&plain) + ".safetensors"), "plain").unwrap();
    std::fs::write(cache.join(base(&described) + ".png"), "described").unwrap();
    let node = serde_json::json!({
        "authRequired": false,
        "url": described,
        "cachedAt": "2025-01-01T00:00:00.000Z"
    });
    std::fs::write(cache.join(base(&described) + ".png.meta"), node.to_string()).unwrap();
    std::fs::write(cache.join(base(&nameless) + ".ckpt"), "nameless").unwrap();
    let bench = Bench::in_dir(dir, &[], hasty()).await;
    for (url, text) in [
        (&plain, "plain"),
        (&described, "described"),
        (&nameless, "nameless"),
    ] {
        let fetched = bench.get(url).await.unwrap();
        assert!(fetched.cached);
        assert_eq!(std::fs::read_to_string(fetched.path).unwrap(), text);
    }
    // One that comes while the server runs is found too.
    let late = origin.url("/late?id=4");
    std::fs::write(bench.cache.join(base(&late) + ".pt"), "late").unwrap();
    assert!(bench.get(&late).await.unwrap().cached);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn extensions_come_from_the_answer_where_the_url_has_none() {
    let origin = Origin::start(|request, _| match request.target.as_str() {
        "/named" => Reply::ok("1")
            .with(
                "Content-Disposition",
                "attachment; filename=\"my model.safetensors\"",
            )
            .with("Content-Type", "image/png"),
        "/moved" => Reply::redirect("/elsewhere/file.ckpt"),
        "/hostile" => Reply::ok("1").with(
            "Content-Disposition",
            "attachment; filename=\"../..\\\\a: b?.ckpt \"",
        ),
        "/typed" => Reply::ok("1").with("Content-Type", "image/webp; charset=x"),
        _ => Reply::ok("1"),
    })
    .await;
    let bench = Bench::new(&[]).await;
    for (path, extension, name) in [
        ("/named", ".safetensors", "my model.safetensors"),
        ("/hostile", ".ckpt", "a_ b_.ckpt"),
        ("/moved", ".ckpt", "moved"),
        ("/typed", ".webp", "typed"),
        ("/bare", "", "bare"),
    ] {
        let url = origin.url(path);
        for cached in [false, true] {
            let fetched = bench.get(&url).await.unwrap();
            assert_eq!(fetched.path, bench.cache.join(base(&url) + extension));
            assert_eq!(
                (fetched.origin_name.as_str(), fetched.cached),
                (name, cached)
            );
        }
    }
}

#[tokio::test]
async fn a_protected_file_needs_credentials_that_the_origin_accepts() {
    for head_refused in [false, true] {
        let origin = Origin::start(move |request, _| match request.header("authorization") {
            _ if head_refused && request.method == "HEAD" => Reply::status(405),
            Some("Bearer right" | "Bearer other") => Reply::file(request, &content(1000), "\"v\""),
            _ => Reply::status(401),
        })
        .await;
        let bench = Bench::new(&[]).await;
        let url = origin.url("/gated.bin?sig=hidden");
        let fetched = bench.get_as(&url, bearer("right")).await.unwrap();
        assert_eq!(meta(&fetched.path)["authRequired"], true);
        let error = bench.get(&url).await.unwrap_err();
        assert_eq!(
            (error.kind, error.message),
            (
                ErrorKind::Unauthorized,
                format!(
                    "Authentication required to access cached file for URL: {}",
                    origin.url("/gated.bin")
                )
            )
        );
        // Who brings nothing is asked for with nothing.
        let asked = origin.requests().pop().unwrap();
        assert_eq!(
            (asked.header("authorization"), asked.range()),
            (None, Some((0, Some(0))))
        );
        assert_eq!(
            bench.get_as(&url, bearer("wrong")).await.unwrap_err().kind,
            ErrorKind::Unauthorized
        );
        assert!(bench.get_as(&url, bearer("other")).await.unwrap().cached);
        let credentials = serde_json::json!([{
            "url_pattern": "http://127.0.0.1:*/**",
            "auth": {"type": "bearer", "token": "right"}
        }]);
        assert!(
            bench
                .storage
                .fetch(fetch_with(&url, credentials))
                .await
                .unwrap()
                .cached
        );
        let last = origin.requests().pop().unwrap();
        assert_eq!(last.method == "HEAD", !head_refused);
        if head_refused {
            assert_eq!(last.range(), Some((0, Some(0))));
        }
    }
}

#[tokio::test]
async fn a_protected_download_in_flight_is_not_for_strangers() {
    let body = content(200_000);
    let origin = Origin::start(move |request, _| match request.header("authorization") {
        Some("Bearer right") => Reply {
            trickle: Some(4_000),
            ..Reply::file(request, &body, "\"v\"")
        },
        _ => Reply::status(401),
    })
    .await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/gated.bin");
    let stranger = async {
        origin.wait_for(1).await;
        (
            bench.get(&url).await,
            bench.get_as(&url, bearer("wrong")).await,
        )
    };
    let (owner, (nobody, wrong)) = tokio::join!(bench.get_as(&url, bearer("right")), stranger);
    assert!(owner.is_ok());
    assert_eq!(nobody.unwrap_err().kind, ErrorKind::Unauthorized);
    assert_eq!(wrong.unwrap_err().kind, ErrorKind::Unauthorized);
    // Each of them asked for themselves (A01).
    assert_eq!(origin.count("GET"), 3);
}

#[tokio::test]
async fn a_broken_description_is_not_trusted() {
    let origin = Origin::start(|_, _| Reply::ok("fresh")).await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/x.bin");
    let path = bench.get(&url).await.unwrap().path;
    std::fs::write(format!("{}.meta", path.display()), "{\"authRequired\": tr").unwrap();
    assert!(!bench.get(&url).await.unwrap().cached);
    // A file that is shorter than it was is what a power cut leaves.
    std::fs::write(&path, "fre").unwrap();
    let again = bench.get(&url).await.unwrap();
    assert_eq!(
        (again.cached, std::fs::read_to_string(&path).unwrap()),
        (false, "fresh".to_owned())
    );
    // And a file that somebody removed is fetched again.
    std::fs::remove_file(&path).unwrap();
    assert!(!bench.get(&url).await.unwrap().cached);
}

#[tokio::test]
async fn two_servers_may_share_a_directory() {
    let body = content(300_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(10_000),
        ..Reply::file(request, &served, "\"v\"")
    })
    .await;
    let one = Bench::new(&[]).await;
    let cache = one.cache.to_str().unwrap().to_owned();
    let two = Bench::new(&[("CACHE_DIR", &cache)]).await;
    let url = origin.url("/shared.bin");
    let (first, second) = tokio::join!(one.get(&url), two.get(&url));
    assert_eq!(first.unwrap().path, second.as_ref().unwrap().path);
    assert_eq!(std::fs::read(second.unwrap().path).unwrap(), *body);
    assert_eq!(one.names().len(), 2, "{:?}", one.names());
    // A46: one of them has fetched it, the other has only asked.
    let long = |request: &&crate::support::origin::Request| request.method == "GET";
    assert!(origin.requests().iter().filter(long).count() <= 3);
    let events = [&one, &two].map(|bench| bench.events("file_downloaded").len());
    assert!(events.iter().sum::<usize>() <= 1, "{events:?}");
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_says_so() {
    let origin = nobody().await;
    let bench = Bench::new(&[]).await;
    std::fs::remove_dir_all(&bench.cache).unwrap();
    std::fs::write(&bench.cache, "a file").unwrap();
    let error = bench.storage.prepare().await.unwrap_err();
    assert!(error.message.contains("CACHE_DIR"), "{error}");
    assert!(bench.get(&origin.url("/x")).await.is_err());
}
