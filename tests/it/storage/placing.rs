//! Models as links, inputs as files.

use std::os::unix::fs::MetadataExt;

use comfyui_api::storage::model_name;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::Bench;

async fn origin() -> Origin {
    Origin::start(|request, _| Reply::ok(request.target.clone())).await
}

#[tokio::test]
async fn a_model_is_a_link_that_is_replaced_at_once() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let folder = bench.dir.path().join("models/checkpoints");
    let (one, two) = (
        bench.get(&origin.url("/1.ckpt")).await.unwrap(),
        bench.get(&origin.url("/2.ckpt")).await.unwrap(),
    );
    assert_eq!(
        bench
            .storage
            .place_model(&one, &folder, "sub/m.ckpt")
            .await
            .unwrap(),
        None
    );
    let link = folder.join("sub/m.ckpt");
    assert_eq!(std::fs::read_link(&link).unwrap(), one.path);
    // While it is replaced over and over, the name is there at every moment.
    let looked = link.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let looker = tokio::task::spawn_blocking(move || {
        while !stopped.is_cancelled() {
            assert!(std::fs::read(&looked).is_ok());
        }
    });
    for n in 0..200 {
        bench
            .storage
            .place_model(if n % 2 == 0 { &two } else { &one }, &folder, "sub/m.ckpt")
            .await
            .unwrap();
    }
    stop.cancel();
    looker.await.unwrap();
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "/1.ckpt");
    assert_eq!(std::fs::read_dir(folder.join("sub")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_regular_file_is_used_as_it_is_with_a_warning() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let fetched = bench.get(&origin.url("/1.ckpt")).await.unwrap();
    std::fs::write(bench.dir.path().join("mine.ckpt"), "mine").unwrap();
    let warning = bench
        .storage
        .place_model(&fetched, bench.dir.path(), "mine.ckpt")
        .await
        .unwrap()
        .unwrap();
    assert!(warning.contains("mine.ckpt"), "{warning}");
    assert_eq!(
        std::fs::read_to_string(bench.dir.path().join("mine.ckpt")).unwrap(),
        "mine"
    );
    for name in ["../out.ckpt", "/abs.ckpt", "a/../../b", ".hidden", "nul"] {
        assert!(
            bench
                .storage
                .place_model(&fetched, &bench.dir.path().join("models"), name)
                .await
                .is_err(),
            "{name}"
        );
    }
    assert!(
        !bench.dir.path().join("models").exists() && !bench.dir.path().join("out.ckpt").exists()
    );
}

#[tokio::test]
async fn an_input_is_a_hard_link_or_a_copy_elsewhere() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let fetched = bench.get(&origin.url("/1.png")).await.unwrap();
    let near = bench.dir.path().join("input/id/1.png");
    for _ in 0..2 {
        bench.storage.place_input(&fetched, &near).await.unwrap();
        assert_eq!(
            std::fs::metadata(&near).unwrap().ino(),
            std::fs::metadata(&fetched.path).unwrap().ino()
        );
        assert_eq!(
            std::fs::read_dir(near.parent().unwrap()).unwrap().count(),
            1
        );
    }
    // Another file system, where there is one.
    if let Ok(far) = tempfile::tempdir_in("/dev/shm") {
        let far = far.path().join("deep/1.png");
        bench.storage.place_input(&fetched, &far).await.unwrap();
        assert_eq!(std::fs::read_to_string(&far).unwrap(), "/1.png");
        assert!(!std::fs::symlink_metadata(&far).unwrap().is_symlink());
    }
}

#[tokio::test]
async fn models_get_names_that_comfyui_lists() {
    let origin = Origin::start(|request, _| match request.target.as_str() {
        "/named" => {
            Reply::ok("x").with("Content-Disposition", "attachment; filename=m.safetensors")
        }
        "/sniffed" => Reply::ok([&20_u64.to_le_bytes()[..], b"{\"__metadata__\": {}}"].concat()),
        "/gguf" => Reply::ok("GGUF and more of it"),
        _ => Reply::ok("unknown"),
    })
    .await;
    let bench = Bench::new(&[]).await;
    for (path, wished, name) in [
        ("/named", None, "m.safetensors"),
        ("/named", Some("mine"), "mine.safetensors"),
        ("/named", Some("mine.pt"), "mine.pt"),
        ("/sniffed", Some("v1.5"), "v1.5.safetensors"),
        ("/gguf", None, "gguf.gguf"),
        ("/other", None, "other"),
    ] {
        let fetched = bench.get(&origin.url(path)).await.unwrap();
        assert_eq!(model_name(&fetched, wished).await, name);
    }
}

#[tokio::test]
async fn links_of_an_older_server_are_adopted() {
    let origin = Origin::start(|_, _| Reply::ok(vec![1; 100 * 1024])).await;
    let bench = Bench::new(&[("LRU_CACHE_SIZE_GB", "0.00015")]).await;
    let folder = bench.dir.path().join("models/loras");
    std::fs::create_dir_all(&folder).unwrap();
    let path = bench.get(&origin.url("/1.pt")).await.unwrap().path;
    let users = bench.dir.path().join("nowhere");
    for (target, name) in [
        (&path, "kept.pt"),
        (&bench.cache.join("gone.pt"), "dangling.pt"),
        (&users, "users.pt"),
    ] {
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    bench
        .storage
        .adopt_links(vec![bench.dir.path().join("models")])
        .await;
    assert!(
        folder.join("kept.pt").exists()
            && !folder.join("dangling.pt").is_symlink()
            && folder.join("users.pt").is_symlink()
    );
    bench.get(&origin.url("/2.pt")).await.unwrap();
    assert!(!path.exists() && !folder.join("kept.pt").is_symlink());
}

/// D11: the event names where the file was placed first, once.
#[tokio::test]
async fn a_download_is_told_with_its_place() {
    let origin = origin().await;
    let bench = Bench::new(&[]).await;
    let models = bench.dir.path().join("models/loras");
    let url = origin.url("/m.safetensors");
    for name in ["here.safetensors", "again.safetensors"] {
        let fetched = bench.get(&url).await.unwrap();
        bench
            .storage
            .place_model(&fetched, &models, name)
            .await
            .unwrap();
    }
    let input = bench.dir.path().join("input/x.png");
    let fetched = bench.get(&origin.url("/x.png")).await.unwrap();
    bench.storage.place_input(&fetched, &input).await.unwrap();
    drop(fetched);
    let told: Vec<_> = bench
        .events("file_downloaded")
        .iter()
        .map(|event| event["local_path"].as_str().unwrap().to_owned())
        .collect();
    let model = models.join("here.safetensors");
    assert_eq!(told, [model.to_str().unwrap(), input.to_str().unwrap()]);
}
