//! The spool: nothing is lost when retries are used up, when the process ends, or when it is
//! killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::http::StatusCode;
use comfyui_api::webhook::Options;

use super::{SECRET, delivery, eventually, files, quick, webhooks, webhooks_with};
use crate::support::receiver::{Behaviour, Receiver};

const COUNT: usize = 20;

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

#[tokio::test]
async fn what_could_not_be_delivered_is_delivered_later() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    let spool = dir.path().join("spool");
    let webhooks = webhooks(&[
        ("WEBHOOK_SPOOL_DIR", path(&spool)),
        ("PROMPT_WEBHOOK_RETRIES", "1"),
        ("WEBHOOK_SECRET", SECRET),
    ]);
    webhooks.start();
    webhooks.deliver(delivery(receiver.url("/"), "an-id"));
    // More than the first attempt and its retry: the rounds through the spool have begun.
    receiver.wait("/", 4).await;
    assert_eq!(files(&spool).len(), 1);
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    let received = receiver
        .wait_until("/", Duration::from_secs(10), |all| {
            all.iter().any(|one| one.status == Some(StatusCode::OK))
        })
        .await;
    let last = received.last().unwrap();
    assert_eq!(
        (last.header("webhook-id"), last.body.clone()),
        ("an-id", super::body("an-id").into())
    );
    eventually("the spool is empty", || files(&spool).is_empty()).await;
}

#[tokio::test]
async fn delivered_and_hopeless_ones_leave_no_file() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/gone", Behaviour::Answer(StatusCode::GONE));
    let webhooks = webhooks(&[("WEBHOOK_SPOOL_DIR", path(dir.path()))]);
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    webhooks.deliver(delivery(receiver.url("/gone"), "2"));
    webhooks.drain(Duration::from_secs(20)).await;
    assert_eq!((receiver.at("/").len(), receiver.at("/gone").len()), (1, 1));
    assert!(files(dir.path()).is_empty());
}

#[tokio::test]
async fn the_end_of_the_process_spools_what_is_left() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/", Behaviour::Hang);
    let first = webhooks(&[("WEBHOOK_SPOOL_DIR", path(dir.path()))]);
    for n in 0..COUNT {
        first.deliver(delivery(receiver.url("/"), &n.to_string()));
    }
    receiver.wait("/", 1).await;
    first.drain(Duration::from_millis(100)).await;
    // Even one that comes too late.
    first.deliver(delivery(receiver.url("/"), "late"));
    eventually("all are in the spool", || {
        files(dir.path())
            .iter()
            .filter(|name| name.ends_with(".webhook"))
            .count()
            == COUNT + 1
    })
    .await;
    drop(first);
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    webhooks(&[("WEBHOOK_SPOOL_DIR", path(dir.path()))]).start();
    eventually("the spool is empty", || files(dir.path()).is_empty()).await;
    let ids: BTreeSet<String> = receiver
        .at("/")
        .iter()
        .filter(|one| one.status.is_some())
        .map(|one| one.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), COUNT + 1);
}

#[tokio::test]
async fn damaged_files_are_set_aside_and_old_ones_dropped() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    std::fs::write(dir.path().join("0000000000001-x.webhook"), "garbage").unwrap();
    std::fs::write(dir.path().join("README"), "not ours").unwrap();
    let options = Options {
        schedule: quick(),
        sweep_every: Duration::from_millis(50),
        keep_for: Duration::from_millis(700),
        ..Options::default()
    };
    let webhooks = webhooks_with(
        &[
            ("WEBHOOK_SPOOL_DIR", path(dir.path())),
            ("PROMPT_WEBHOOK_RETRIES", "0"),
        ],
        options,
    );
    webhooks.start();
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    receiver.wait("/", 2).await;
    eventually("the damaged file is aside and the old one gone", || {
        files(dir.path()) == ["0000000000001-x.webhook.damaged", "README"]
    })
    .await;
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_costs_no_delivery() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    receiver.behave("/", Behaviour::Sequence(vec![StatusCode::BAD_GATEWAY]));
    webhooks(&[("WEBHOOK_SPOOL_DIR", path(&file.join("below")))])
        .deliver(delivery(receiver.url("/"), "1"));
    assert_eq!(receiver.wait("/", 2).await[1].status, Some(StatusCode::OK));
}

#[tokio::test]
async fn kill_9_loses_nothing() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "webhook::spool::killed_process",
            "--ignored",
            "--nocapture",
        ])
        .env("WEBHOOK_TEST_URL", receiver.url("/").as_str())
        .env("WEBHOOK_TEST_SPOOL", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ids = |received: &[crate::support::receiver::Received]| {
        received
            .iter()
            .map(|one| one.header("webhook-id").to_owned())
            .collect::<BTreeSet<_>>()
    };
    receiver
        .wait_until("/", Duration::from_secs(60), |received| {
            ids(received).len() == COUNT
        })
        .await;
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = receiver.at("/").len();
    assert_eq!(
        files(dir.path())
            .iter()
            .filter(|name| name.ends_with(".webhook"))
            .count(),
        COUNT
    );
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    webhooks(&[
        ("WEBHOOK_SPOOL_DIR", path(dir.path())),
        ("WEBHOOK_SECRET", SECRET),
    ])
    .start();
    eventually("the spool is empty", || {
        files(dir.path())
            .iter()
            .all(|name| !name.ends_with(".webhook"))
    })
    .await;
    let delivered = receiver.at("/").split_off(before);
    assert_eq!(ids(&delivered).len(), COUNT, "all arrive");
    // Up to 8 requests of the killed process may have been on their way and be read only now.
    assert!(
        delivered.len() <= COUNT + 8,
        "each once, not {}",
        delivered.len()
    );
    assert!(
        delivered
            .iter()
            .all(|one| one.body == super::body(one.header("webhook-id"))
                && one.header("webhook-signature").starts_with("v1,"))
    );
}

/// The process that [`kill_9_loses_nothing`] kills.
#[tokio::test]
#[ignore = "run by kill_9_loses_nothing"]
async fn killed_process() {
    let (Ok(url), Ok(dir)) = (
        std::env::var("WEBHOOK_TEST_URL"),
        std::env::var("WEBHOOK_TEST_SPOOL"),
    ) else {
        return;
    };
    let webhooks = webhooks(&[
        ("WEBHOOK_SPOOL_DIR", &dir),
        ("PROMPT_WEBHOOK_RETRIES", "1000"),
        ("WEBHOOK_SECRET", SECRET),
    ]);
    for n in 0..COUNT {
        webhooks.deliver(delivery(url.parse().unwrap(), &format!("id-{n}")));
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
}

/// A43: whatever the size of a backlog, it follows the first delivery that is taken; a dead
/// receiver's stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_follows_its_first_delivery() {
    const BACKLOG: usize = 400;
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    for path in ["/live", "/dead"] {
        receiver.behave(path, Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE));
    }
    let rare = |keep_for: Duration| Options {
        schedule: quick(),
        // No second round comes in the time of this test.
        sweep_every: Duration::from_secs(3600),
        keep_for,
        waiting_per_endpoint: 20,
        ..Options::default()
    };
    let settings = [
        ("WEBHOOK_SPOOL_DIR", path(dir.path())),
        ("PROMPT_WEBHOOK_RETRIES", "0"),
    ];
    let kept = || {
        let names = files(dir.path());
        names
            .iter()
            .filter(|name| name.ends_with(".webhook"))
            .count()
    };
    let first = webhooks_with(&settings, rare(Duration::from_secs(3600)));
    for n in 0..BACKLOG {
        first.deliver(delivery(receiver.url("/live"), &format!("{n:04}")));
        if n % 10 == 0 {
            first.deliver(delivery(receiver.url("/dead"), &n.to_string()));
        }
    }
    eventually("all are in the spool", || kept() == BACKLOG + BACKLOG / 10).await;
    first.drain(Duration::from_secs(5)).await;
    drop(first);
    let before = receiver.at("/live").len();
    receiver.behave("/live", Behaviour::Answer(StatusCode::OK));
    // Everything is older than this, and is delivered all the same: the receiver takes it.
    let second = webhooks_with(&settings, rare(Duration::from_millis(1)));
    second.start();
    let all = receiver
        .wait_until("/live", Duration::from_secs(60), |all| {
            all.len() == before + BACKLOG
        })
        .await;
    eventually("the live backlog is gone", || kept() <= BACKLOG / 10).await;
    let ids: BTreeSet<&str> = all[before..]
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect();
    assert_eq!(ids.len(), BACKLOG, "each once");
    // Nobody took anything at the other address: the one that was tried is too old, the rest waits
    // for its turn.
    eventually("the oldest of the dead one is given up", || {
        kept() == BACKLOG / 10 - 1
    })
    .await;
}

/// A43: a success of a fresh delivery wakes the backlog.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_success_wakes_the_backlog() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.behave("/", Behaviour::Answer(StatusCode::BAD_GATEWAY));
    let options = Options {
        schedule: quick(),
        sweep_every: Duration::from_secs(3600),
        ..Options::default()
    };
    let webhooks = webhooks_with(
        &[
            ("WEBHOOK_SPOOL_DIR", path(dir.path())),
            ("PROMPT_WEBHOOK_RETRIES", "0"),
        ],
        options,
    );
    webhooks.start();
    for n in 0..30 {
        webhooks.deliver(delivery(receiver.url("/"), &n.to_string()));
    }
    receiver.wait("/", 30).await;
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    webhooks.deliver(delivery(receiver.url("/"), "fresh"));
    eventually("the spool is empty", || files(dir.path()).is_empty()).await;
    let taken: BTreeSet<String> = receiver
        .at("/")
        .iter()
        .filter(|one| one.status == Some(StatusCode::OK))
        .map(|one| one.header("webhook-id").to_owned())
        .collect();
    assert_eq!(taken.len(), 31);
}
