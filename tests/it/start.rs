//! What a start says, and what keeps it from starting (faults.md, U7, F05, F15, F18).

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::product::{BINARY, Stage, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_where_to_look_and_json_is_not() {
    let mut pretty = Stage::new().env("LOG_FORMAT", "pretty").spawn();
    let line = pretty
        .log
        .line("its documentation: http://127.0.0.1:")
        .await;
    assert!(line.ends_with("/docs"), "{line}");
    pretty.stop().await;
    let json = Stage::new().start().await;
    json.log.line("\"ready\"").await;
    assert_eq!(json.log.count("its documentation"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_says_where_its_documentation_is() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = tokio::process::Command::new(BINARY)
        .arg("demo")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("PORT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let said = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it has ended");
            if line.contains("its documentation: http://localhost:") {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(std::time::Duration::from_secs(60), said)
        .await
        .expect("it did not say so");
    let url = line.split("documentation: ").nth(1).unwrap();
    comfyui_api::net::install_crypto();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut product = Stage::new().env("PORT", port).spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    let line = product.log.line("cannot listen").await;
    assert!(
        line.contains(&format!("PORT={port}")) && line.contains("choose another PORT"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_ends_the_start_with_2() {
    for (name, value) in [
        ("API_KEYS", ","),
        ("METRICS_REQUIRE_KEY", "true"),
        ("AMQP_CA_FILE", "/nonexistent.pem"),
        ("AMQP_TLS_CERT_FILE", "/nonexistent.pem"),
        ("MAX_BODY_SIZE_MB", "big"),
    ] {
        let mut product = Stage::new().env(name, value).spawn();
        assert_eq!(product.ended().await.code(), Some(2), "{name}={value}");
        product.log.line(name).await;
    }
}

/// F15, D14: neither Kubernetes nor an old Node configuration keeps it from starting.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_link_and_values_of_javascript_start_with_a_warning() {
    let product = Stage::new()
        .env("AMQP_PORT", "tcp://10.0.0.1:5672")
        .env("LRU_CACHE_SIZE_GB", "50GB")
        .start()
        .await;
    assert_eq!(product.log.count("enableServiceLinks: false"), 1);
    assert_eq!(product.log.count("LRU_CACHE_SIZE_GB"), 1);
}
