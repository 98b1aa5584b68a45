//! Dead receivers in numbers, and bodies that do not fit into memory.

use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use comfyui_api::document::{Document, EmbeddedFile, placeholder};
use comfyui_api::webhook::{Delivery, Kind, Options};
use serde_json::json;

use super::{SECRET, delivery, files, quick, webhooks, webhooks_with};
use crate::support::memory;
use crate::support::receiver::{Behaviour, Receiver};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_deliveries_to_dead_receivers_delay_nobody() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/hangs", Behaviour::Hang);
    receiver.behave(
        "/fails",
        Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR),
    );
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let gone: url::Url = format!("http://{gone}/").parse().unwrap();
    let webhooks = webhooks_with(
        &[("WEBHOOK_SPOOL_DIR", dir.path().to_str().unwrap())],
        Options {
            schedule: quick(),
            ..Options::default()
        },
    );
    let dead = [receiver.url("/hangs"), receiver.url("/fails"), gone];
    let mut keepers: Vec<Weak<()>> = Vec::new();
    let begun = Instant::now();
    for n in 0..999 {
        let keeper = Arc::new(());
        keepers.push(Arc::downgrade(&keeper));
        let body = Document::with_files(
            &json!({"n": n, "text": "x".repeat(10_000)}),
            "mark",
            &[],
            Some(keeper),
        );
        webhooks.deliver(Delivery {
            kind: Kind::V2,
            url: dead[n % 3].clone(),
            id: n.to_string(),
            body,
            promise: None,
            trace: Default::default(),
        });
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "deliver returns at once: {:?} for 999",
        begun.elapsed()
    );
    // With everything above already begun, the spool's writers still busy with it at most.
    super::eventually("all are in the spool and their documents let go", || {
        keepers.iter().all(|keeper| keeper.upgrade().is_none())
    })
    .await;
    let healthy = Instant::now();
    for n in 0..30 {
        webhooks.deliver(delivery(receiver.url("/lives"), &n.to_string()));
    }
    receiver.wait("/lives", 30).await;
    assert!(
        healthy.elapsed() < Duration::from_secs(20),
        "a live receiver waited {:?}",
        healthy.elapsed()
    );
    assert!(
        receiver.at("/hangs").len() <= 8 && receiver.most_inside() <= 32,
        "few attempts at a time: {}",
        receiver.most_inside()
    );
    webhooks.drain(Duration::from_millis(100)).await;
    let kept = files(dir.path())
        .iter()
        .filter(|name| name.ends_with(".webhook"))
        .count();
    assert_eq!(kept, 999, "nothing is lost");
}

#[tokio::test]
async fn without_a_spool_what_waits_is_bounded() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Hang);
    let webhooks = webhooks_with(
        &[],
        Options {
            waiting_per_endpoint: 50,
            ..Options::default()
        },
    );
    let keepers: Vec<Weak<()>> = (0..200)
        .map(|n| {
            let keeper = Arc::new(());
            let body =
                Document::with_files(&json!(n), "mark", &[], Some(Arc::<()>::clone(&keeper)));
            webhooks.deliver(Delivery {
                kind: Kind::V2,
                url: receiver.url("/"),
                id: n.to_string(),
                body,
                promise: None,
                trace: Default::default(),
            });
            Arc::downgrade(&keeper)
        })
        .collect();
    assert_eq!(
        keepers
            .iter()
            .filter(|keeper| keeper.upgrade().is_some())
            .count(),
        50
    );
    webhooks.deliver(delivery(
        receiver.url("/other"),
        "another endpoint is not concerned",
    ));
    receiver.wait("/other", 1).await;
}

#[tokio::test]
async fn without_a_spool_the_text_in_memory_is_bounded() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Hang);
    let webhooks = webhooks_with(
        &[],
        Options {
            waiting_text: 1 << 20,
            ..Options::default()
        },
    );
    let keepers: Vec<Weak<()>> = (0..20)
        .map(|n| {
            let keeper = Arc::new(());
            let body = Document::with_files(
                &json!({"n": n, "text": "x".repeat(100 << 10)}),
                "mark",
                &[],
                Some(Arc::<()>::clone(&keeper)),
            );
            webhooks.deliver(Delivery {
                kind: Kind::V2,
                url: receiver.url("/"),
                id: n.to_string(),
                body,
                promise: None,
                trace: Default::default(),
            });
            Arc::downgrade(&keeper)
        })
        .collect();
    assert_eq!(
        keepers
            .iter()
            .filter(|keeper| keeper.upgrade().is_some())
            .count(),
        10
    );
    webhooks.deliver(delivery(receiver.url("/other"), "small"));
    receiver.wait("/other", 1).await;
}

const RAW: u64 = 225 << 20;

#[tokio::test]
async fn a_body_of_300_mb_does_not_sit_in_memory() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/memory", Behaviour::Digest);
    receiver.behave("/spool", Behaviour::Digest);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "webhook::load::sends_300_mb",
            "--ignored",
            "--nocapture",
        ])
        .env("WEBHOOK_TEST_URL", receiver.url("/").as_str())
        .env("WEBHOOK_TEST_DIR", dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let grown: u64 = text
        .split("resident growth KiB: ")
        .nth(1)
        .unwrap_or_else(|| panic!("no measurement: {text}"))
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    for path in ["/memory", "/spool"] {
        let received = receiver.at(path).remove(0);
        assert_eq!(received.len, RAW.div_ceil(3) * 4 + 4);
        assert_eq!(received.header("content-length"), received.len.to_string());
        assert!(received.header("webhook-signature").starts_with("v1,"));
    }
    assert_eq!(
        receiver.at("/memory")[0].sha256,
        receiver.at("/spool")[0].sha256
    );
    assert!(grown < 32 * 1024, "{grown} KiB");
}

/// The process that [`a_body_of_300_mb_does_not_sit_in_memory`] measures.
#[tokio::test]
#[ignore = "run by a_body_of_300_mb_does_not_sit_in_memory"]
async fn sends_300_mb() {
    let (Ok(url), Ok(dir)) = (
        std::env::var("WEBHOOK_TEST_URL"),
        std::env::var("WEBHOOK_TEST_DIR"),
    ) else {
        return;
    };
    let url: url::Url = url.parse().unwrap();
    let file = std::path::Path::new(&dir).join("video");
    std::fs::File::create(&file).unwrap().set_len(RAW).unwrap();
    let spool = std::path::Path::new(&dir).join("spool");
    // Small ones first, so that what is measured is the size and not the first use.
    let plain = webhooks(&[("WEBHOOK_SECRET", SECRET), ("WEBHOOK_TIMEOUT_S", "60")]);
    let spooling = webhooks(&[
        ("WEBHOOK_SECRET", SECRET),
        ("WEBHOOK_TIMEOUT_S", "60"),
        ("WEBHOOK_SPOOL_DIR", spool.to_str().unwrap()),
    ]);
    plain.deliver(delivery(url.join("/small").unwrap(), "1"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = peak();
    for (webhooks, path) in [(plain, "/memory"), (spooling, "/spool")] {
        let files = [EmbeddedFile {
            path: file.clone(),
            size: RAW,
            content: None,
        }];
        let body = Document::with_files(&json!([placeholder("m", 0)]), "m", &files, None);
        webhooks.deliver(Delivery {
            kind: Kind::V2,
            url: url.join(path).unwrap(),
            id: "big".into(),
            body,
            promise: None,
            trace: Default::default(),
        });
        webhooks.drain(Duration::from_secs(300)).await;
    }
    println!("resident growth KiB: {} (from {before})", peak() - before);
}

/// The most memory this process ever had, in KiB.
fn peak() -> u64 {
    memory::of(std::process::id(), "VmHWM") / 1024
}
