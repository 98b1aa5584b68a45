//! F03: a login page, an error document, an empty body or an LFS pointer is neither a model nor a
//! picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comfyui_api::storage::ErrorKind;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, fetch};

#[tokio::test]
async fn what_is_no_file_is_refused_and_the_origin_is_asked_again() {
    let well = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&well);
    let origin = Origin::start(move |request, _| {
        let typed = |kind: &str, body: &str| Reply::ok(body).with("Content-Type", kind);
        if healed.load(Ordering::SeqCst) {
            return Reply::ok(vec![8; 100]);
        }
        match request.target.as_str() {
            "/page.safetensors" => {
                typed("text/html; charset=utf-8", "<!DOCTYPE html><title>Log in")
            }
            "/hidden.safetensors" => typed("application/octet-stream", "\n<html><body>quota"),
            "/error.png" => typed("application/json", "{\"error\": \"no\"}"),
            "/soap.pt" => typed(
                "application/octet-stream",
                "<?xml version='1.0'?><Error></Error>",
            ),
            "/plain.ckpt" => typed("text/plain", "quota exceeded"),
            "/lfs.bin" => {
                Reply::ok("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
            }
            _ => Reply::ok(""),
        }
    })
    .await;
    let bench = Bench::new(&[]).await;
    let paths = [
        ("/page.safetensors", "text/html"),
        ("/hidden.safetensors", "HTML"),
        ("/error.png", "application/json"),
        ("/soap.pt", "XML"),
        ("/plain.ckpt", "text/plain"),
        ("/lfs.bin", "git-lfs"),
        ("/empty.bin", "empty"),
    ];
    for (path, said) in paths {
        let error = bench.get(&origin.url(path)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed, "{path}");
        assert!(
            error.message.contains(said) && error.message.contains(&origin.url(path)),
            "{path}: {error}"
        );
    }
    assert!(bench.names().is_empty(), "{:?}", bench.names());
    assert_eq!(
        origin.requests().len(),
        paths.len(),
        "none is tried again by itself"
    );
    well.store(true, Ordering::SeqCst);
    for (path, _) in paths {
        assert!(!bench.get(&origin.url(path)).await.unwrap().cached);
    }
}

#[tokio::test]
async fn texts_come_where_texts_were_asked_for() {
    let origin = Origin::start(|request, _| match request.target.as_str() {
        "/named" => Reply::ok("a: 1")
            .with("Content-Type", "text/plain")
            .with("Content-Disposition", "attachment; filename=c.yaml"),
        path if path.ends_with("json") => {
            Reply::ok("{\"a\": 1}").with("Content-Type", "application/json")
        }
        _ => Reply::ok("some text").with("Content-Type", "text/plain"),
    })
    .await;
    let bench = Bench::new(&[]).await;
    for path in ["/c.yaml", "/c.json", "/v1.txt?x=1", "/named", "/table.CSV"] {
        assert!(
            !bench.get(&origin.url(path)).await.unwrap().cached,
            "{path}"
        );
        assert!(bench.get(&origin.url(path)).await.unwrap().cached, "{path}");
    }
    // The name that the client wants decides as well; for another one it is no file.
    let url = origin.url("/raw?id=json");
    assert!(bench.get(&url).await.is_err());
    let wanted = bench.storage.fetch_named(fetch(&url), "x.json").await;
    assert!(!wanted.unwrap().cached);
    assert!(bench.get(&url).await.is_err());
    assert!(
        bench
            .storage
            .fetch_named(fetch(&url), "x.json")
            .await
            .unwrap()
            .cached
    );
}

/// A page that an older server has cached is no reason to go on using it.
#[tokio::test]
async fn a_cached_page_is_fetched_anew() {
    let origin = Origin::start(|_, _| Reply::ok("the model")).await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/m.safetensors");
    let path = bench.get(&url).await.unwrap().path;
    let page = "<html>in</html>";
    std::fs::write(&path, page).unwrap();
    std::fs::remove_file(format!("{}.meta", path.display())).unwrap();
    let again = bench.get(&url).await.unwrap();
    assert_eq!(
        (
            again.cached,
            std::fs::read_to_string(&path).unwrap().as_str()
        ),
        (false, "the model")
    );
}
