//! What the log says of webhooks, and what it must not say. The log is the process's, so a process
//! of its own is asked.

use std::process::Command;
use std::time::Duration;

use comfyui_api::webhook::Kind;

use super::{delivery, webhooks};

#[test]
fn each_loss_is_logged_without_secrets_and_the_deprecation_once() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "webhook::logs::loses_three_legacy_webhooks",
            "--ignored",
            "--nocapture",
        ])
        .env("WEBHOOK_TEST_LOGS", "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("is deprecated").count(), 1, "{text}");
    for id in ["prompt-1", "prompt-2", "prompt-3"] {
        let line = text
            .lines()
            .find(|line| line.contains("webhook lost") && line.contains(id))
            .unwrap_or_else(|| panic!("{id} is not in {text}"));
        assert!(line.contains("http://127.0.0.1:1/hook"), "{line}");
    }
    assert!(!text.contains("s3cr3t"), "{text}");
}

/// The process that is asked.
#[tokio::test]
#[ignore = "run by each_loss_is_logged_without_secrets_and_the_deprecation_once"]
async fn loses_three_legacy_webhooks() {
    if std::env::var_os("WEBHOOK_TEST_LOGS").is_none() {
        return;
    }
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stdout)
        .init();
    let webhooks = webhooks(&[("PROMPT_WEBHOOK_RETRIES", "1")]);
    for n in 1..=3 {
        let url = "http://user:s3cr3t@127.0.0.1:1/hook?token=s3cr3t#s3cr3t"
            .parse()
            .unwrap();
        webhooks.deliver(comfyui_api::webhook::Delivery {
            kind: Kind::Legacy,
            ..delivery(url, &format!("prompt-{n}"))
        });
    }
    webhooks.drain(Duration::from_secs(20)).await;
}
