//! A46: several instances on one cache. Locks are of open files, so that two storages in one
//! process stand for two processes.

use std::sync::Arc;

use comfyui_api::storage::Replace;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, content, until};

/// A limit of so many kilobytes, as the variable takes it.
fn limit(kilobytes: f64) -> String {
    format!("{:.12}", kilobytes / 1024.0 / 1024.0)
}

async fn three(limit: &str) -> [Bench; 3] {
    let one = Bench::new(&[("LRU_CACHE_SIZE_GB", limit)]).await;
    let cache = one.cache.to_str().unwrap().to_owned();
    let more = [("CACHE_DIR", cache.as_str()), ("LRU_CACHE_SIZE_GB", limit)];
    let (two, three) = (Bench::new(&more).await, Bench::new(&more).await);
    [one, two, three]
}

fn bytes(bench: &Bench) -> u64 {
    bench
        .names()
        .iter()
        .filter(|name| name.ends_with(".bin"))
        .map(|name| bench.cache.join(name).metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn the_limit_is_one_and_what_another_holds_stays() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let [a, b, c] = three(&limit(250.0)).await;
    let models = a.dir.path().join("models");
    let held = a.get(&origin.url("/held.bin")).await.unwrap();
    a.storage
        .place_model(
            &held,
            std::slice::from_ref(&models),
            "held.bin",
            Replace::Clients,
        )
        .await
        .unwrap();
    for n in 0..6 {
        let bench = [&b, &c][n % 2];
        bench.get(&origin.url(&format!("/{n}.bin"))).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(held.path.exists() && models.join("held.bin").exists());
    assert!(bytes(&a) <= 256 * 1024, "{}", bytes(&a));
    // Once it is let go, another instance may evict it, and takes the link along that it did not
    // make.
    let path = held.path.clone();
    drop(held);
    for n in 10..14 {
        b.get(&origin.url(&format!("/{n}.bin"))).await.unwrap();
    }
    assert!(!path.exists() && !models.join("held.bin").is_symlink());
}

#[tokio::test]
async fn a_model_that_three_want_is_fetched_once() {
    let body = content(600_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |_, _| Reply {
        trickle: Some(10_000),
        body: Arc::clone(&served),
        ..Reply::status(200).with("ETag", "\"v\"")
    })
    .await;
    let [a, b, c] = three("0").await;
    let url = origin.url("/model.bin");
    let (one, two, three) = tokio::join!(a.get(&url), b.get(&url), c.get(&url));
    for fetched in [one, two, three] {
        assert_eq!(std::fs::read(fetched.unwrap().path).unwrap(), *body);
    }
    let events: usize = [&a, &b, &c]
        .iter()
        .map(|bench| bench.events("file_downloaded").len())
        .sum();
    assert_eq!(events, 1);
    assert_eq!(a.names().len(), 2, "{:?}", a.names());
}

/// Who waited takes over when the other one dies.
#[tokio::test]
async fn a_download_that_was_given_up_is_taken_over() {
    let body = content(400_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |_, before| Reply {
        trickle: Some(if before == 0 { 100 } else { 50_000 }),
        body: Arc::clone(&served),
        ..Reply::status(200).with("ETag", "\"v\"")
    })
    .await;
    let [a, b, _] = three("0").await;
    let url = origin.url("/model.bin");
    let (storage, first) = (a.storage.clone(), url.clone());
    let dying =
        tokio::spawn(async move { storage.fetch(crate::support::storage::fetch(&first)).await });
    until("it downloads", || {
        a.names().iter().any(|name| name.ends_with(".partial"))
    })
    .await;
    let (storage, second) = (b.storage.clone(), url.clone());
    let waiting =
        tokio::spawn(async move { storage.fetch(crate::support::storage::fetch(&second)).await });
    origin.wait_for(2).await;
    dying.abort();
    let fetched = waiting.await.unwrap().unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), *body);
}

/// Lines that one instance adds while another cleans the list are not lost.
#[tokio::test]
async fn the_list_of_links_is_shared() {
    let origin = Origin::start(|_, _| Reply::ok("x")).await;
    let [a, b, _] = three("0").await;
    let models = a.dir.path().join("models");
    let fetched = a.get(&origin.url("/m.bin")).await.unwrap();
    let mut dead = Vec::new();
    for n in 0..20 {
        a.storage
            .place_model(
                &fetched,
                std::slice::from_ref(&models),
                &format!("dead{n}.bin"),
                Replace::Clients,
            )
            .await
            .unwrap();
        dead.push(models.join(format!("dead{n}.bin")));
    }
    dead.iter()
        .for_each(|link| std::fs::remove_file(link).unwrap());
    let adding = async {
        for n in 0..20 {
            a.storage
                .place_model(
                    &fetched,
                    std::slice::from_ref(&models),
                    &format!("{n}.bin"),
                    Replace::Clients,
                )
                .await
                .unwrap();
        }
    };
    let (_, cleaned) = tokio::join!(adding, b.storage.prepare());
    cleaned.unwrap();
    let list = std::fs::read_to_string(a.cache.join(".links")).unwrap();
    let missing: Vec<usize> = (0..20)
        .filter(|n| {
            !list
                .lines()
                .any(|line| line.ends_with(&format!("models/{n}.bin")))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
