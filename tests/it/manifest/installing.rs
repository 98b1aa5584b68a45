//! What is installed, in which order, and what a second start does.

use std::fs;

use super::{Machine, Repository, Server, version};

#[tokio::test]
async fn everything_is_installed_in_order_and_a_second_start_does_nothing() {
    let server = Server::start().await;
    let repository = Repository::new(&server, "node");
    fs::write(repository.work.join("requirements.txt"), "numpy\n").unwrap();
    repository.commit("with requirements");
    let machine = Machine::new(&["apt-get", "uv", "comfy"]);
    let yaml = format!(
        "apt: [ffmpeg, libgl1]\npip: ['numpy==1.0', scipy]\ncustom_nodes: [some-node, \
         '{}/node.git']\n",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        [
            "apt-get update",
            "apt-get install -y ffmpeg libgl1",
            "uv pip install --system numpy==1.0 scipy",
            "comfy node install some-node --fast-deps --exit-on-fail",
            "uv pip install --system -r requirements.txt",
        ]
    );
    assert_eq!(version(&machine.node("node")), "with requirements");
    assert!(server.requests() > 0);

    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        Vec::<String>::new(),
        "nothing is installed again"
    );
    assert!(
        server.requests() < 6,
        "only asked whether the branch has moved"
    );

    // What changed, and only that, is done.
    machine
        .start(&yaml.replace("scipy", "pillow"))
        .await
        .unwrap();
    assert_eq!(
        machine.calls(),
        ["uv pip install --system numpy==1.0 pillow"]
    );
    fs::write(repository.work.join("requirements.txt"), "numpy\ntorch\n").unwrap();
    repository.commit("more");
    machine
        .start(&yaml.replace("scipy", "pillow"))
        .await
        .unwrap();
    assert_eq!(
        machine.calls(),
        ["uv pip install --system -r requirements.txt"]
    );
    assert_eq!(version(&machine.node("node")), "more");
}

#[tokio::test]
async fn an_earlier_list_is_installed_again_after_a_later_one() {
    let server = Server::start().await;
    let (repository, other) = (
        Repository::new(&server, "node"),
        Repository::new(&server, "other"),
    );
    fs::write(other.work.join("requirements.txt"), "pillow\n").unwrap();
    other.commit("with requirements");
    let machine = Machine::new(&["apt-get", "uv"]);
    for (start, release) in ["1", "2", "1"].into_iter().enumerate() {
        fs::write(
            repository.work.join("requirements.txt"),
            format!("scipy=={release}\n"),
        )
        .unwrap();
        repository.commit(release);
        let yaml = format!(
            "apt: ['ffmpeg={release}']\npip: ['numpy=={release}']\ncustom_nodes: \
             ['{0}/other.git', '{0}/node.git']\n",
            server.origin
        );
        machine.start(&yaml).await.unwrap();
        let mut expected = vec![
            "apt-get update".to_owned(),
            format!("apt-get install -y ffmpeg={release}"),
            format!("uv pip install --system numpy=={release}"),
        ];
        // Those of the other node never change.
        expected.extend(std::iter::repeat_n(
            "uv pip install --system -r requirements.txt".to_owned(),
            if start == 0 { 2 } else { 1 },
        ));
        assert_eq!(machine.calls(), expected, "start {start}");
        machine.start(&yaml).await.unwrap();
        assert_eq!(
            machine.calls(),
            Vec::<String>::new(),
            "nothing is installed again"
        );
    }
}

#[tokio::test]
async fn a_lost_package_a_lost_node_and_a_lost_clone_are_installed_again() {
    let server = Server::start().await;
    Repository::new(&server, "cloned");
    let mut machine = Machine::new(&["uv"]);
    let packages = machine.path("venv/lib/python3.12/site-packages");
    fs::create_dir_all(&packages).unwrap();
    machine
        .extra
        .push(("VIRTUAL_ENV", machine.path("venv").display().to_string()));
    machine.tool(
        "uv",
        &format!("/bin/mkdir -p '{}/thing-1.0.dist-info'", packages.display()),
    );
    machine.tool(
        "comfy",
        &format!("/bin/mkdir -p '{}'", machine.node("Registered").display()),
    );
    let yaml = format!(
        "pip: [thing]\ncustom_nodes: [registered, '{}/cloned.git']\n",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        [
            "uv pip install thing",
            "comfy node install registered --fast-deps --exit-on-fail"
        ],
        "no --system in a virtual environment"
    );
    machine.start(&yaml).await.unwrap();
    assert!(machine.calls().is_empty());

    fs::remove_dir(machine.node("Registered")).unwrap();
    fs::remove_dir_all(machine.node("cloned")).unwrap();
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        machine.calls(),
        ["comfy node install registered --fast-deps --exit-on-fail"]
    );
    assert_eq!(version(&machine.node("cloned")), "first");

    // As in a new container with an old volume.
    fs::remove_dir_all(&packages).unwrap();
    machine.start(&yaml).await.unwrap();
    assert_eq!(machine.calls().len(), 2);
}

#[tokio::test]
async fn pip_stands_in_for_uv() {
    let machine = Machine::new(&["pip"]);
    machine.start("pip: [numpy]").await.unwrap();
    assert_eq!(machine.calls(), ["pip install numpy"]);
}
