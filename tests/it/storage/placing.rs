//! Models as links, inputs as files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use comfyui_api::storage::{ErrorKind, Replace, model_name};

use crate::support::origin::{Origin, Reply};
use crate::support::storage::Bench;

async fn origin() -> Origin {
    Origin::start(|request, _| Reply::ok(request.target.clone())).await
}

#[tokio::test]
async fn a_model_is_a_link_that_is_replaced_at_once() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let folder = [bench.dir.path().join("checkpoints")];
    let (one, two) = (
        bench.get(&origin.url("/1.ckpt")).await.unwrap(),
        bench.get(&origin.url("/2.ckpt")).await.unwrap(),
    );
    let placed = bench
        .storage
        .place_model(&one, &folder, "sub/m.ckpt", Replace::Clients)
        .await
        .unwrap();
    assert_eq!((placed.new, placed.kept.clone()), (true, None));
    let folder = &folder;
    let link = folder[0].join("sub/m.ckpt");
    assert_eq!(placed.path(), link);
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
            .place_model(
                if n % 2 == 0 { &two } else { &one },
                folder,
                "sub/m.ckpt",
                Replace::Clients,
            )
            .await
            .unwrap();
    }
    stop.cancel();
    looker.await.unwrap();
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "/1.ckpt");
    assert_eq!(std::fs::read_dir(folder[0].join("sub")).unwrap().count(), 1);
}

/// D10, A17: what may take the place of what.
#[tokio::test]
async fn names_that_others_have_are_kept() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let dirs = [bench.dir.path().join("one"), bench.dir.path().join("two")];
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
    }
    let users = bench.dir.path().join("users.ckpt");
    std::fs::write(&users, "mine").unwrap();
    std::fs::write(dirs[0].join("file.ckpt"), "mine").unwrap();
    // In a directory that ComfyUI looks into later: a link in the first would hide it.
    std::fs::write(dirs[1].join("later.ckpt"), "mine").unwrap();
    std::os::unix::fs::symlink(&users, dirs[0].join("link.ckpt")).unwrap();
    std::os::unix::fs::symlink("/not/mounted.ckpt", dirs[0].join("dangling.ckpt")).unwrap();
    let first = bench.get(&origin.url("/1.ckpt")).await.unwrap();
    let second = bench.get(&origin.url("/2.ckpt")).await.unwrap();
    let place = async |fetched, name: &str, replace| {
        let placed = bench
            .storage
            .place_model(fetched, &dirs, name, replace)
            .await
            .unwrap();
        (placed.path(), placed.kept)
    };
    for (name, dir) in [
        ("file.ckpt", 0),
        ("later.ckpt", 1),
        ("link.ckpt", 0),
        ("dangling.ckpt", 0),
    ] {
        let before = std::fs::read_link(dirs[dir].join(name)).ok();
        for replace in [Replace::Clients, Replace::All] {
            let (path, kept) = place(&first, name, replace).await;
            assert_eq!(path, dirs[dir].join(name));
            assert!(
                kept.is_some_and(|kept| kept.contains(name)),
                "{name} {replace:?}"
            );
        }
        assert_eq!(
            std::fs::read_link(dirs[dir].join(name)).ok(),
            before,
            "{name}"
        );
    }
    assert!(!dirs[0].join("later.ckpt").is_symlink());
    // The manifest's, a client's, and a prompt's.
    let target = |name: &str| std::fs::read_link(dirs[0].join(name)).unwrap();
    place(&first, "op.ckpt", Replace::Clients).await;
    assert!(
        place(&second, "op.ckpt", Replace::Nothing)
            .await
            .1
            .is_some()
    );
    assert_eq!(place(&second, "op.ckpt", Replace::All).await.1, None);
    assert!(place(&first, "op.ckpt", Replace::Clients).await.1.is_some());
    assert_eq!(target("op.ckpt"), second.path);
    assert_eq!(place(&second, "op.ckpt", Replace::Clients).await.1, None);
    place(&first, "theirs.ckpt", Replace::Clients).await;
    assert_eq!(
        place(&second, "theirs.ckpt", Replace::Clients).await.1,
        None
    );
    assert_eq!(target("theirs.ckpt"), second.path);
    // A restart does not forget whose name it is; a name that is to come is reserved.
    let bench = Bench::in_dir(bench.dir, &[], crate::support::storage::hasty()).await;
    let first = bench.get(&origin.url("/1.ckpt")).await.unwrap();
    let place = async |name: &str| {
        let storage = &bench.storage;
        storage
            .place_model(&first, &dirs, name, Replace::Clients)
            .await
    };
    assert!(place("op.ckpt").await.unwrap().kept.is_some());
    let late = dirs[0].join("late.ckpt");
    bench
        .storage
        .reserve_model(&late, &origin.url("/2.ckpt"))
        .await;
    assert_eq!(
        place("late.ckpt").await.unwrap_err().kind,
        ErrorKind::Failed
    );
    bench
        .storage
        .reserve_model(&late, &origin.url("/1.ckpt"))
        .await;
    assert_eq!(place("late.ckpt").await.unwrap().kept, None);
    for name in ["../out.ckpt", "/abs.ckpt", "a/../../b", ".hidden", "nul"] {
        assert!(place(name).await.is_err(), "{name}");
    }
    assert!(!bench.dir.path().join("out.ckpt").exists());
}

/// A link into a cache that has moved is ours; it is no longer good for anything.
#[tokio::test]
async fn a_dangling_link_into_an_older_cache_is_replaced() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let fetched = bench.get(&origin.url("/1.ckpt")).await.unwrap();
    let name = fetched.path.file_name().unwrap().to_str().unwrap();
    let link = bench.dir.path().join(name);
    std::os::unix::fs::symlink(Path::new("/older/cache").join(name), &link).unwrap();
    let dirs = [bench.dir.path().to_owned()];
    let storage = &bench.storage;
    let placed = storage
        .place_model(&fetched, &dirs, name, Replace::Clients)
        .await
        .unwrap();
    assert_eq!(placed.kept, None);
    assert_eq!(std::fs::read_link(&link).unwrap(), fetched.path);
}

/// F26.
#[tokio::test]
async fn the_first_directory_that_takes_the_link_has_it() {
    let (origin, bench) = (origin().await, Bench::new(&[]).await);
    let fetched = bench.get(&origin.url("/1.ckpt")).await.unwrap();
    let at = |name: &str| bench.dir.path().join(name);
    std::fs::write(at("file"), "x").unwrap();
    std::fs::create_dir_all(at("taken/m.ckpt")).unwrap();
    let dirs = [
        at("gone/loras"),
        at("file/loras"),
        at("taken"),
        at("loras"),
        at("last"),
    ];
    let storage = &bench.storage;
    let error = storage
        .place_model(&fetched, &dirs[..3], "m.ckpt", Replace::Clients)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local);
    for dir in &dirs[..3] {
        assert!(
            error.message.contains(&dir.display().to_string()),
            "{error}"
        );
    }
    let placed = storage
        .place_model(&fetched, &dirs, "n.ckpt", Replace::Clients)
        .await
        .unwrap();
    assert_eq!(placed.path(), dirs[2].join("n.ckpt"));
    let both = [dirs[0].clone(), dirs[3].clone(), dirs[4].clone()];
    let placed = storage
        .place_model(&fetched, &both, "sub/deep/n.ckpt", Replace::Clients)
        .await
        .unwrap();
    assert_eq!(placed.path(), dirs[3].join("sub/deep/n.ckpt"));
    assert!(!at("gone").exists() && !at("last").exists());
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
        "/pickle.zip" => Reply::ok(b"\x80\x02}q\x00(X\x05\x00\x00".as_slice()),
        "/moved-v1.5" => Reply::redirect("/cdn/model.ckpt"),
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
        ("/named", Some("mine.txt"), "mine.txt.safetensors"),
        ("/named", Some("sub/MINE.SFT"), "sub/MINE.SFT"),
        ("/pickle.zip", None, "pickle.zip.pt"),
        ("/moved-v1.5", Some("sd-v1.5"), "sd-v1.5.ckpt"),
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
    let models = bench.dir.path().join("loras");
    let url = origin.url("/m.safetensors");
    for name in ["here.safetensors", "again.safetensors"] {
        let fetched = bench.get(&url).await.unwrap();
        bench
            .storage
            .place_model(
                &fetched,
                std::slice::from_ref(&models),
                name,
                Replace::Clients,
            )
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
