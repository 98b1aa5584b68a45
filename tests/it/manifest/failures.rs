//! Steps that fail, steps that are stopped, and manifests that cannot be read.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use comfyui_api::config::{Config, ManifestConfig};
use comfyui_api::manifest::Manifest;
use tokio_util::sync::CancellationToken;

use super::{Machine, Repository, Server};

#[tokio::test]
async fn failures_name_the_step_and_show_the_last_lines_but_no_credentials() {
    let server = Server::start().await;
    Repository::new(&server, "node");
    let origin = server.origin.replace("http://", "http://me:marked-secret@");

    let machine = Machine::new(&["apt-get", "pip"]);
    machine.tool(
        "apt-get",
        "[ \"$1\" = update ] && exit 0; echo 'E: Unable to locate package nonsense' >&2; exit 100",
    );
    let error = machine.start("apt: [nonsense]").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("apt-get install failed with exit code 100"),
        "{error}"
    );
    assert!(
        error
            .last_lines
            .contains(&"E: Unable to locate package nonsense".to_owned()),
        "{error}"
    );

    machine.tool("pip", "echo \"cannot install $*\"; exit 1");
    let error = machine
        .start("pip: ['git+https://u:marked-secret@h.example/x.git?token=marked-secret']")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pip")
            && error.contains("https://h.example/x.git")
            && !error.contains("marked-secret"),
        "{error}"
    );

    let error = machine
        .start(&format!("custom_nodes: ['{origin}/absent.git']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("absent.git")
            && error.contains("failed")
            && !error.contains("marked-secret"),
        "{error}"
    );
    assert!(
        !machine.node("absent").exists() && !machine.node(".absent.partial").exists(),
        "nothing half is left"
    );

    let error = machine
        .start(&format!("custom_nodes: ['{origin}/node.git@v9']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no branch, tag or commit v9") && !error.contains("marked-secret"),
        "{error}"
    );
    assert!(!machine.node("node").exists());

    let error = machine
        .start("custom_nodes: [by-name]")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("by-name") && error.contains("comfy"),
        "{error}"
    );

    fs::create_dir(machine.node("node")).unwrap();
    fs::write(machine.node("node").join("mine"), "x").unwrap();
    let error = machine
        .start(&format!("custom_nodes: ['{origin}/node.git']"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a git clone"), "{error}");
    assert!(machine.node("node").join("mine").exists());

    let bare = Machine::new(&[]);
    assert!(
        bare.start("pip: [x]")
            .await
            .unwrap_err()
            .to_string()
            .contains("uv or pip")
    );
    assert!(
        bare.start("apt: [x]")
            .await
            .unwrap_err()
            .to_string()
            .contains("apt-get")
    );
}

#[tokio::test]
async fn a_stop_kills_the_running_command() {
    let machine = Machine::new(&[]);
    machine.tool(
        "pip",
        &format!(
            "echo $$ > '{}'; /bin/sleep 1000",
            machine.path("pid").display()
        ),
    );
    let manifest = Manifest::from_yaml("MANIFEST", "pip: [slow]").unwrap();
    let (installer, cancel) = (machine.installer().await, CancellationToken::new());
    let stop = async {
        while fs::read_to_string(machine.path("pid")).map_or(true, |text| text.trim().is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(installer.install_before_start(&manifest, &cancel), stop)
    })
    .await
    .unwrap();
    assert!(result.unwrap_err().to_string().contains("interrupted"));
    let pid = fs::read_to_string(machine.path("pid")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z"))
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the command still runs"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_variable_wins_over_the_file_and_both_are_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yml");
    fs::write(&file, "pip: [from-file]\n").unwrap();
    let load = |pairs: &[(&str, &str)]| {
        let env: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let config: ManifestConfig = Config::from_env(&env).unwrap().manifest;
        async move { Manifest::load(&config).await }
    };
    let path = file.to_str().unwrap();
    assert!(load(&[]).await.unwrap().is_none());
    assert_eq!(
        load(&[("MANIFEST", path)]).await.unwrap().unwrap().pip[0].expose(),
        "from-file"
    );
    assert_eq!(
        load(&[
            ("MANIFEST", path),
            ("MANIFEST_JSON", r#"{"pip":["from-variable"]}"#)
        ])
        .await
        .unwrap()
        .unwrap()
        .pip[0]
            .expose(),
        "from-variable"
    );
    let missing = load(&[("MANIFEST", "/no/such.yml")])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/no/such.yml") && missing.contains("MANIFEST"),
        "{missing}"
    );
    // D15.
    let more = load(&[("MANIFEST_JSON", r#"{"nodes":[], "version": 1}"#)])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(more.warnings.len(), 2, "{:?}", more.warnings);
}
