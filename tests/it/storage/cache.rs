//! The cache directory: the Node server's files, protected files, use, eviction.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use comfyui_api::storage::{ErrorKind, Replace};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, bearer, content, fetch_with, hasty};

/// The name of the specification, computed on its own.
fn base(url: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE.encode(Sha256::digest(url))[..32].to_owned()
}

fn meta(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(format!("{}.meta", file.display())).unwrap()).unwrap()
}

fn age(path: impl AsRef<Path>, seconds: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
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

/// A limit of so many kilobytes, as the variable takes it.
fn limit(kilobytes: f64) -> String {
    format!("{:.12}", kilobytes / 1024.0 / 1024.0)
}

#[tokio::test]
async fn the_least_recently_used_files_go_and_their_links_with_them() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", &limit(250.0))]).await;
    let models = bench.dir.path().join("models");
    let url = |n: u32| origin.url(&format!("/{n}.bin?token=hidden"));
    let mut paths = Vec::new();
    for n in 0..2 {
        let fetched = bench.get(&url(n)).await.unwrap();
        bench
            .storage
            .place_model(
                &fetched,
                std::slice::from_ref(&models),
                &format!("{n}.bin"),
                Replace::Clients,
            )
            .await
            .unwrap();
        paths.push(fetched.path);
    }
    // Number 0 is used again, so number 1 is the one to go.
    bench.get(&url(0)).await.unwrap();
    bench.get(&url(2)).await.unwrap();
    assert!(paths[0].exists() && !paths[1].exists());
    assert!(!Path::new(&format!("{}.meta", paths[1].display())).exists());
    assert!(models.join("0.bin").exists() && !models.join("1.bin").is_symlink());
    let deleted = bench.events("file_deleted");
    assert_eq!(deleted.len(), 1);
    let expected = serde_json::json!({
        "url": origin.url("/1.bin"),
        "local_path": paths[1],
        "size": 100 * 1024
    });
    assert_eq!(deleted[0], expected);
}

#[tokio::test]
async fn use_survives_a_restart_and_the_start_evicts() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let bench = Bench::new(&[]).await;
    let url = |n: u32| origin.url(&format!("/{n}.bin"));
    let models = bench.dir.path().join("models");
    for n in 0..3 {
        let fetched = bench.get(&url(n)).await.unwrap();
        bench
            .storage
            .place_model(
                &fetched,
                std::slice::from_ref(&models),
                &format!("{n}.bin"),
                Replace::Clients,
            )
            .await
            .unwrap();
        age(
            format!("{}.meta", fetched.path.display()),
            1000 - u64::from(n),
        );
    }
    // The oldest one is used, which is all that speaks for it after the restart.
    bench.get(&url(0)).await.unwrap();
    let bench = Bench::in_dir(bench.dir, &[("LRU_CACHE_SIZE_GB", &limit(150.0))], hasty()).await;
    let files: Vec<String> = bench
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".bin"))
        .collect();
    assert_eq!(files, [base(&url(0)) + ".bin"]);
    assert!(
        models.join("0.bin").exists()
            && !models.join("1.bin").is_symlink()
            && !models.join("2.bin").is_symlink()
    );
    assert_eq!(bench.events("file_deleted").len(), 2);
}

#[tokio::test]
async fn a_file_in_use_stays() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", &limit(150.0))]).await;
    let held = bench.get(&origin.url("/held.bin")).await.unwrap();
    let other = bench.get(&origin.url("/other.bin")).await.unwrap();
    assert!(held.path.exists() && other.path.exists());
    let (first, second) = (held.path.clone(), other.path.clone());
    drop((held, other));
    bench.get(&origin.url("/third.bin")).await.unwrap();
    assert!(!first.exists() && !second.exists());
}

#[tokio::test]
async fn a_model_that_is_named_by_its_link_is_used_and_held() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", &limit(250.0))]).await;
    let models = bench.dir.path().join("models");
    let named = bench.get(&origin.url("/named.bin")).await.unwrap();
    bench
        .storage
        .place_model(
            &named,
            std::slice::from_ref(&models),
            "named.bin",
            Replace::Clients,
        )
        .await
        .unwrap();
    let path = named.path.clone();
    drop(named);
    bench.get(&origin.url("/second.bin")).await.unwrap();
    // The oldest by its download, but the newest by its use.
    let paths = || {
        vec![
            models.join("named.bin"),
            models.join("missing.bin"),
            models.clone(),
        ]
    };
    drop(bench.storage.hold_linked(paths()).await);
    bench.get(&origin.url("/third.bin")).await.unwrap();
    assert!(path.exists());
    let held = bench.storage.hold_linked(paths()).await;
    assert_eq!(held.len(), 1);
    for n in 0..4 {
        bench
            .get(&origin.url(&format!("/more{n}.bin")))
            .await
            .unwrap();
    }
    assert!(path.exists() && models.join("named.bin").exists());
}

#[tokio::test]
async fn what_can_never_fit_empties_nothing() {
    let huge = |request: &crate::support::origin::Request, _| match request.target.as_str() {
        "/huge.bin" => Reply {
            claimed_length: Some(1 << 50),
            ..Reply::ok("x")
        },
        _ => Reply::ok(vec![1; 1024]),
    };
    let origin = Origin::start(huge).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", "1")]).await;
    let path = bench.get(&origin.url("/kept.bin")).await.unwrap().path;
    let error = bench.get(&origin.url("/huge.bin")).await.unwrap_err();
    assert!(
        error.message.contains("the disk is full") && path.exists(),
        "{error}"
    );
}

/// A44: what no living process has locked goes, however young it is.
#[tokio::test]
async fn partial_files_of_nobody_go_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    for name in [
        "young.partial",
        "x.meta.1.partial",
        "locked.partial",
        "old.txt",
    ] {
        std::fs::write(cache.join(name), "x").unwrap();
    }
    age(cache.join("locked.partial"), 99 * 3600);
    let locked = std::fs::File::open(cache.join("locked.partial")).unwrap();
    locked.lock().unwrap();
    let bench = Bench::in_dir(dir, &[("LRU_CACHE_SIZE_GB", "0.000000001")], hasty()).await;
    // What is not the cache's is left alone, whatever the limit.
    assert_eq!(bench.names(), ["locked.partial", "old.txt"]);
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
