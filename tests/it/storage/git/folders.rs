//! The folder that a repository gets.

use comfyui_api::storage::ErrorKind;
use tokio_util::sync::CancellationToken;

use super::{clone, commit, git, repository, smart};
use crate::support::origin::{Origin, Reply};
use crate::support::storage::Bench;

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
