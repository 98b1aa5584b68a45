//! A clone: made, kept up to date, refused, given up.

use std::time::Duration;

use comfyui_api::storage::ErrorKind;
use tokio_util::sync::CancellationToken;

use super::{backend, clone, commit, git, repository, smart};
use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, until};

#[tokio::test]
async fn a_clone_is_shallow_and_kept_up_to_date() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let origin = smart(repository.path().to_owned()).await;
    let to = bench.dir.path().join("nodes/r");
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "3");
    assert!(to.join(".git/shallow").exists());
    let work = repository.path().join("work");
    commit(&work, "4");
    git(&work, &["push", "-q", "../r.git", "HEAD:main"]);
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "4");
    // What somebody has changed is left alone.
    std::fs::write(to.join("file"), "mine").unwrap();
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "mine");
    let at = bench.dir.path().join("at");
    clone(&bench, &origin.url("/r.git#first"), &at)
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "1");
    assert_eq!(
        std::fs::read_dir(bench.dir.path().join("nodes"))
            .unwrap()
            .count(),
        1
    );
}

#[tokio::test]
async fn an_update_that_was_killed_is_done_again() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let origin = smart(repository.path().to_owned()).await;
    let to = bench.dir.path().join("r");
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    // What a git leaves behind that was killed between two files.
    std::fs::write(to.join(".git/comfyui-api-updating"), "x").unwrap();
    std::fs::write(to.join(".git/index.lock"), "").unwrap();
    std::fs::write(to.join(".git/shallow.lock"), "").unwrap();
    std::fs::write(to.join("file"), "half of").unwrap();
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "3");
    // Once only: what somebody changes afterwards is left alone.
    std::fs::write(to.join("file"), "mine").unwrap();
    clone(&bench, &origin.url("/r.git"), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "mine");
}

#[tokio::test]
async fn a_clone_is_updated_by_one_at_a_time() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let origin = smart(repository.path().to_owned()).await;
    let (to, url) = (bench.dir.path().join("r"), origin.url("/r.git"));
    clone(&bench, &url, &to).await.unwrap();
    let outcomes = futures_util::future::join_all((0..6).map(|_| clone(&bench, &url, &to))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn credentials_are_sent_but_not_kept_or_shown() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let root = repository.path().to_owned();
    let origin = Origin::start(move |request, _| match request.header("authorization") {
        Some("Basic bWU6bWFya2Vk") => backend(&root, request),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let to = bench.dir.path().join("r");
    clone(
        &bench,
        &format!("http://me:marked@127.0.0.1:{}/r.git", origin.port),
        &to,
    )
    .await
    .unwrap();
    assert!(
        !std::fs::read_to_string(to.join(".git/config"))
            .unwrap()
            .contains("marked")
    );
    let error = clone(
        &bench,
        &format!("http://me:wrong-marked@127.0.0.1:{}/r.git", origin.port),
        &bench.dir.path().join("other"),
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(!error.message.contains("marked"), "{error}");
}

#[tokio::test]
async fn a_plain_web_server_and_a_redirect_work_too() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let root = repository.path().to_owned();
    let dumb = Origin::start(move |request, _| {
        let path = request
            .target
            .split('?')
            .next()
            .unwrap()
            .trim_start_matches('/');
        std::fs::read(root.join(path)).map_or_else(|_| Reply::status(404), Reply::ok)
    })
    .await;
    let to = dumb.url("");
    let moved = Origin::start(move |request, _| {
        Reply::redirect(format!("{to}{}", request.target.replace("/old", "/r.git")))
    })
    .await;
    for (n, url) in [dumb.url("/r.git"), moved.url("/old")].iter().enumerate() {
        let to = bench.dir.path().join(n.to_string());
        clone(&bench, url, &to).await.unwrap();
        assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "3");
    }
}

#[tokio::test]
async fn failures_leave_nothing_and_what_is_there_is_left_alone() {
    let bench = Bench::new(&[]).await;
    let origin = Origin::start(|_, _| Reply::status(404)).await;
    let parent = bench.dir.path().join("nodes");
    std::fs::create_dir_all(parent.join("mine")).unwrap();
    std::fs::write(parent.join("mine/x"), "x").unwrap();
    assert_eq!(
        clone(&bench, &origin.url("/none.git"), &parent.join("none"))
            .await
            .unwrap_err()
            .kind,
        ErrorKind::NotFound
    );
    let empty = Origin::start(|_, _| Reply::ok("not a repository")).await;
    assert!(
        clone(&bench, &empty.url("/x.git"), &parent.join("x"))
            .await
            .is_err()
    );
    assert!(
        clone(&bench, &empty.url("/x.git"), &parent.join("mine"))
            .await
            .is_err()
    );
    assert_eq!(std::fs::read_to_string(parent.join("mine/x")).unwrap(), "x");
    for url in [
        "file:///etc",
        "ssh://h/r",
        "--upload-pack=x",
        "ext::sh -c x",
    ] {
        assert_eq!(
            clone(&bench, url, &parent.join("y"))
                .await
                .unwrap_err()
                .kind,
            ErrorKind::Invalid,
            "{url}"
        );
    }
    until("temporary directories are gone", || {
        std::fs::read_dir(&parent).unwrap().count() == 1
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_clone_is_killed() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let root = repository.path().to_owned();
    let origin = Origin::start(move |request, before| {
        let reply = backend(&root, request);
        Reply {
            delay: (before >= 1).then_some(Duration::from_secs(60)),
            ..reply
        }
    })
    .await;
    let (token, url, to) = (
        CancellationToken::new(),
        origin.url("/r.git"),
        bench.dir.path().join("nodes/r"),
    );
    let cancel = async {
        origin.wait_for(2).await;
        token.cancel();
    };
    let dirs = [to.parent().unwrap().to_owned()];
    let cloning = bench.storage.clone_repository(&url, &dirs, "r", &token);
    let (cloned, ()) = tokio::join!(cloning, cancel);
    assert_eq!(cloned.unwrap_err().kind, ErrorKind::Cancelled);
    until("the temporary clone is gone", || {
        std::fs::read_dir(bench.dir.path().join("nodes"))
            .unwrap()
            .count()
            == 0
    })
    .await;
    let mine = format!("127.0.0.1:{}", origin.port);
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
            .any(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains("git") && line.contains(&mine)
            })
    };
    until("git has ended", || !running()).await;
}
