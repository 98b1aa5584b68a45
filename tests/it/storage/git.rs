//! Real repositories, real git, served over HTTP by git itself and by a plain web server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use comfyui_api::storage::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::support::origin::{Origin, Reply, Request};
use crate::support::storage::{Bench, until};

fn git(dir: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .output()
        .expect("git must be installed");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A bare repository `r.git` with three commits and the tag `first`, beside its work tree.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    for n in 1..=3 {
        commit(&work, &n.to_string());
        if n == 1 {
            git(&work, &["tag", "first"]);
        }
    }
    git(dir.path(), &["clone", "-q", "--bare", "work", "r.git"]);
    git(&dir.path().join("r.git"), &["update-server-info"]);
    dir
}

fn commit(work: &Path, text: &str) {
    std::fs::write(work.join("file"), text).unwrap();
    git(work, &["add", "."]);
    git(work, &["commit", "-q", "-m", text]);
}

/// git's own server for the smart protocol.
fn backend(root: &Path, request: &Request) -> Reply {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env(
            "CONTENT_TYPE",
            request.header("content-type").unwrap_or_default(),
        )
        .env(
            "HTTP_CONTENT_ENCODING",
            request.header("content-encoding").unwrap_or_default(),
        )
        .env(
            "GIT_PROTOCOL",
            request.header("git-protocol").unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git must be installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&request.body)
        .unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let mut reply = Reply::ok(&output[end + 4..]);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => reply.status = value[..3].parse().unwrap(),
            _ => reply = reply.with(name, value),
        }
    }
    reply
}

async fn smart(root: PathBuf) -> Origin {
    Origin::start(move |request, _| backend(&root, request)).await
}

/// Clones to that path; what it is called there if that name is taken.
async fn clone(
    bench: &Bench,
    url: &str,
    to: &Path,
) -> Result<String, comfyui_api::storage::StorageError> {
    let (dir, name) = (to.parent().unwrap(), to.file_name().unwrap());
    bench
        .storage
        .clone_repository(
            url,
            &[dir.to_owned()],
            name.to_str().unwrap(),
            &CancellationToken::new(),
        )
        .await
}

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

/// A18: a name that is taken locks nobody out, and tells nothing of who has it.
#[tokio::test]
async fn the_second_repository_of_a_name_gets_a_folder_of_its_own() {
    let (stranger, good, bench) = (repository(), repository(), Bench::new(&[]).await);
    commit(&good.path().join("work"), "good");
    git(
        &good.path().join("work"),
        &["push", "-q", "../r.git", "HEAD:main"],
    );
    let strange = smart(stranger.path().to_owned()).await;
    let origin = smart(good.path().to_owned()).await;
    let dir = bench.dir.path().join("diffusers");
    std::fs::create_dir_all(dir.join("no-clone")).unwrap();
    std::fs::write(dir.join("no-clone/x"), "x").unwrap();
    let local = good.path().join("r.git").display().to_string();
    git(&dir, &["clone", "-q", &local, "operators"]);
    git(
        &dir.join("operators"),
        &["remote", "set-url", "origin", &origin.url("/r.git")],
    );
    let read = |name: &str| std::fs::read_to_string(dir.join(name).join("file")).unwrap();

    let url = origin.url("/r.git");
    assert_eq!(
        clone(&bench, &strange.url("/r.git"), &dir.join("r"))
            .await
            .unwrap(),
        "r"
    );
    let own = clone(&bench, &url, &dir.join("r")).await.unwrap();
    let digits = own.strip_prefix("r-").unwrap();
    assert!(
        digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{own}"
    );
    assert_eq!((read("r"), read(&own)), ("3".to_owned(), "good".to_owned()));
    // Again, also with credentials in the URL: the same folder.
    let again = url.replace("http://", "http://me:marked@");
    assert_eq!(clone(&bench, &again, &dir.join("r")).await.unwrap(), own);
    // References of one repository, at the same time, and a folder that is no clone.
    let first = format!("{url}#first");
    let (plain, tag) = (dir.join("both"), dir.join("both"));
    let (head, tagged) = tokio::join!(clone(&bench, &url, &plain), clone(&bench, &first, &tag));
    let (head, tagged) = (head.unwrap(), tagged.unwrap());
    assert_ne!(head, tagged);
    assert_eq!(
        (read(&head), read(&tagged)),
        ("good".to_owned(), "1".to_owned())
    );
    let other = clone(&bench, &url, &dir.join("no-clone")).await.unwrap();
    assert_eq!(
        (read(&other).as_str(), dir.join("no-clone/x").exists()),
        ("good", true)
    );
    // The operator's own clone is used as it is, and never moved.
    commit(&good.path().join("work"), "newer");
    git(
        &good.path().join("work"),
        &["push", "-q", "../r.git", "HEAD:main"],
    );
    assert_eq!(
        clone(&bench, &url, &dir.join("operators")).await.unwrap(),
        "operators"
    );
    assert_eq!(read("operators"), "good");
    let moved = clone(&bench, &first, &dir.join("operators")).await.unwrap();
    assert_eq!(
        (read("operators"), read(&moved)),
        ("good".to_owned(), "1".to_owned())
    );

    // An error tells neither paths nor others.
    let empty = Origin::start(|_, _| Reply::ok("not a repository")).await;
    let error = clone(&bench, &empty.url("/r.git"), &dir.join("r"))
        .await
        .unwrap_err()
        .message;
    let home = bench.dir.path().display().to_string();
    assert!(
        !error.contains(&home) && !error.contains(&strange.port.to_string()),
        "{error}"
    );
}

/// F26: a folder that cannot be written is passed over; one whose parent is missing is not made.
#[tokio::test]
async fn a_repository_goes_to_the_first_folder_that_takes_it() {
    let (repository, bench) = (repository(), Bench::new(&[]).await);
    let origin = smart(repository.path().to_owned()).await;
    let blocked = bench.dir.path().join("file/diffusers");
    std::fs::write(bench.dir.path().join("file"), "x").unwrap();
    let dirs = [
        bench.dir.path().join("not-mounted/diffusers"),
        blocked,
        bench.dir.path().join("diffusers"),
    ];
    let token = CancellationToken::new();
    let url = origin.url("/r.git");
    let name = bench
        .storage
        .clone_repository(&url, &dirs, "r", &token)
        .await
        .unwrap();
    assert_eq!(name, "r");
    assert!(dirs[2].join("r/file").exists() && !bench.dir.path().join("not-mounted").exists());
    let error = bench
        .storage
        .clone_repository(&url, &dirs[..2], "r", &token)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local);
}
