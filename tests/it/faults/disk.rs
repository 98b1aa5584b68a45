//! A42, A47: a disk that is really full, or read-only. It is our fault, whichever folder is on it,
//! and `/ready` says so.

use serde_json::{Value, json};

use crate::support::graphs::{loaded, picture, png, to_base64};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};
use crate::support::tmpfs::Disk;

/// `passes`: it is said that it may pass.
async fn refused(product: &Product, graph: &Value, folder: &str, passes: bool) {
    let request = product.http.post(format!("{}/prompt", product.url));
    let answer = request
        .json(&json!({"prompt": graph}))
        .send()
        .await
        .unwrap();
    let (status, again) = (
        answer.status().as_u16(),
        answer.headers().contains_key("retry-after"),
    );
    let body: Value = answer.json().await.unwrap();
    let expected = if passes { (503, true) } else { (500, false) };
    assert_eq!((status, again), expected, "{folder}: {body}");
    product.until_status("/ready", 503).await;
    let (_, ready) = product.get("/ready").await;
    let reason = ready["reason"].as_str().unwrap();
    let named = product.path(folder).display().to_string();
    assert!(reason.contains(&named), "{folder}: {ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_our_fault_whichever_folder_is_on_it() {
    let origin = Origin::start(|_, _| Reply::ok(png([1, 2, 3]))).await;
    let cases = [
        ("output", picture("x")),
        ("input", loaded(&to_base64(&png([4, 5, 6])))),
        ("cache", loaded(&origin.url("/new.png"))),
    ];
    for (folder, graph) in cases {
        let stage = Stage::new().env("ALLOW_PRIVATE_NETWORKS", "true");
        std::fs::create_dir_all(stage.path(folder)).unwrap();
        let Some(mounted) = Disk::over(&stage.path(folder), 40) else {
            return;
        };
        let product = stage.start().await;
        // Unmounted before the folder is removed.
        let disk = mounted;
        product.run("before", &picture("x")).await;
        disk.fill();
        refused(&product, &graph, folder, true).await;
        disk.empty();
        product.until_ready().await;
        product.run("after", &graph).await;
        product.until_clean().await;
        if folder == "cache" {
            // The lock file of the journal is open for writing: the kernel lets nobody make that
            // disk read-only.
            continue;
        }
        disk.read_only(true);
        let fresh = match folder {
            "input" => loaded(&to_base64(&png([7, 8, 9]))),
            _ => graph,
        };
        // A node's error is tried again elsewhere, whatever it is.
        refused(&product, &fresh, folder, folder == "output").await;
        disk.read_only(false);
        product.until_ready().await;
        product.run("again", &fresh).await;
        product.until_clean().await;
    }
}
