//! A46 where the file system has no locks: everybody does as if alone, with one warning.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::graphs::{loaded, picture};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, why_locks_stay};

/// A picture that nobody can compress.
fn noise(number: u8) -> Vec<u8> {
    let mut picture = image::RgbImage::new(128, 128);
    let mut state = u32::from(number) + 1;
    for pixel in picture.pixels_mut() {
        for channel in &mut pixel.0 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *channel = state.to_be_bytes()[0];
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn cached(cache: &Path) -> u64 {
    let entries = std::fs::read_dir(cache).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".png"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_on_a_cache_without_locks_do_as_if_alone() {
    if let Some(why) = why_locks_stay() {
        eprintln!("SKIPPED: locks cannot be taken away here: {why}");
        return;
    }
    let origin = Origin::start(|request, _| {
        let number = request.target.trim_matches(|c: char| !c.is_ascii_digit());
        Reply::ok(noise(number.parse().unwrap()))
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let size = noise(0).len();
    let limit = format!("{:.12}", 4.5 * size as f64 / f64::from(1 << 30));
    let stage = || {
        Stage::new()
            .without_locks()
            .env("ALLOW_PRIVATE_NETWORKS", "true")
            .env("CACHE_DIR", cache.path().display())
            .env("LRU_CACHE_SIZE_GB", &limit)
    };
    let (one, two) = tokio::join!(stage().start(), stage().start());
    let load = |product: &Product, number: u8| {
        let url = origin.url(&format!("/{number}.png"));
        product.prompt_later(json!({"prompt": loaded(&url)}))
    };
    // The same file at once, then more than there is room for.
    for numbers in [[0, 0], [1, 2], [3, 4], [5, 5], [6, 7]] {
        let both = (load(&one, numbers[0]), load(&two, numbers[1]));
        for answer in [both.0.await.unwrap(), both.1.await.unwrap()] {
            assert_eq!(answer.0, 200, "{}", answer.1);
        }
    }
    for product in [&one, &two] {
        let said = product.log.count("of CACHE_DIR has no locks");
        assert_eq!(said, 1, "one warning of each process");
    }
    one.until_clean().await;
    // Each keeps to the limit by what it sees when it makes room.
    load(&one, 8).await.unwrap();
    assert!(cached(cache.path()) <= 5 * size as u64);
    assert!(
        !std::fs::read_dir(cache.path())
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with(".partial"))
    );
    // One dies in the middle: the other goes on, and the next starts.
    let mut one = one;
    one.signal(Signal::SIGKILL);
    one.ended().await;
    assert_eq!(load(&two, 9).await.unwrap().0, 200);
    let next = stage().start().await;
    next.run("next", &picture("x")).await;
    assert_eq!(load(&next, 9).await.unwrap().0, 200);
}
