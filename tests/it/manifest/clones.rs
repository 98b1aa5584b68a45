//! Custom nodes: pinned and followed.

use super::{Machine, Repository, Server, run, version};

#[tokio::test]
async fn every_pinned_ref_is_checked_out_and_pinned_clones_ask_nobody_again() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    let first = run(&repository.work, &["rev-parse", "HEAD"]);
    repository.git(&["tag", "v1"]);
    repository.git(&["checkout", "-q", "-b", "feature/deep"]);
    repository.commit("feature");
    repository.git(&["checkout", "-q", "main"]);
    repository.commit("newest");
    for (suffix, expected, asks_again) in [
        ("", "newest", true),
        ("@v1", "first", false),
        ("@feature/deep", "feature", true),
        ("/tree/feature/deep", "feature", true),
        ("/tree/feature/deep/some/folder", "feature", true),
        ("/-/tree/main", "newest", true),
        ("/src/v1/README.md", "first", false),
        ("/releases/tag/v1", "first", false),
        (&format!("/commit/{first}"), "first", false),
        (&format!("/-/commit/{first}"), "first", false),
        (&format!("/commits/{}", &first[..10]), "first", false),
        (&format!("@{first}"), "first", false),
    ] {
        let machine = Machine::new(&[]);
        let yaml = format!("custom_nodes: ['{}/node.git{suffix}']", server.origin);
        machine
            .start(&yaml)
            .await
            .unwrap_or_else(|error| panic!("{suffix}: {error}"));
        assert_eq!(version(&machine.node("node")), expected, "{suffix}");
        server.requests();
        machine.start(&yaml).await.unwrap();
        assert_eq!(server.requests() > 0, asks_again, "{suffix}");
        assert_eq!(version(&machine.node("node")), expected, "{suffix}");
    }
}

#[tokio::test]
async fn an_existing_clone_follows_the_manifest() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    repository.git(&["tag", "v1"]);
    let machine = Machine::new(&[]);
    let plain = format!("custom_nodes: ['{}/node.git']", server.origin);
    let pinned = format!("custom_nodes: ['{}/node.git@v1']", server.origin);
    machine.start(&plain).await.unwrap();
    repository.commit("second");
    machine.start(&plain).await.unwrap();
    assert_eq!(
        version(&machine.node("node")),
        "second",
        "a branch is followed"
    );
    assert_eq!(
        run(&machine.node("node"), &["symbolic-ref", "--short", "HEAD"]),
        "main",
        "and stays checked out"
    );
    machine.start(&pinned).await.unwrap();
    assert_eq!(version(&machine.node("node")), "first");
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "second");
    // History was rewritten.
    repository.git(&["reset", "-q", "--hard", "v1"]);
    repository.commit("rewritten");
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "rewritten");
    // The server is gone: what worked yesterday starts today, what is new does not.
    drop(server);
    machine.start(&plain).await.unwrap();
    assert_eq!(version(&machine.node("node")), "rewritten");
    assert!(machine.start(&pinned.replace("v1", "v2")).await.is_err());
}
