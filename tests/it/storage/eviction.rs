//! What goes when the cache is full, and what stays.

use std::path::Path;
use std::time::{Duration, SystemTime};

use comfyui_api::storage::Replace;

use super::cache::base;
use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, hasty};

fn age(path: impl AsRef<Path>, seconds: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
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
