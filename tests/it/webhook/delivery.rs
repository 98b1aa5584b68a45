//! Attempts and retries against receivers that misbehave.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use comfyui_api::document::Document;
use comfyui_api::webhook::{Delivery, Kind};

use super::{SECRET, delivery, webhooks};
use crate::support::receiver::{Behaviour, Receiver};

#[tokio::test]
async fn a_failure_is_retried_with_growing_delays_and_the_same_id() {
    let receiver = Receiver::start().await;
    let statuses = [503, 404, 301].map(|code| StatusCode::from_u16(code).unwrap());
    receiver.behave("/", Behaviour::Sequence(statuses.to_vec()));
    webhooks(&[("WEBHOOK_SECRET", SECRET)]).deliver(delivery(receiver.url("/"), "an-id"));
    let received = receiver.wait("/", 4).await;
    let seen: Vec<u16> = received
        .iter()
        .map(|one| one.status.unwrap().as_u16())
        .collect();
    assert_eq!(seen, [503, 404, 301, 200]);
    assert!(
        received
            .iter()
            .all(|one| one.header("webhook-id") == "an-id" && one.body == super::body("an-id"))
    );
    // The shortest jittered delays: 20, 40 and 80 ms.
    for (pair, least) in received.windows(2).zip([20, 40, 80]) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(least));
    }
}

#[tokio::test]
async fn retries_end() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    let webhooks = webhooks(&[("PROMPT_WEBHOOK_RETRIES", "2")]);
    webhooks.deliver(delivery(receiver.url("/"), "an-id"));
    receiver.wait("/", 3).await;
    // Draining waits for the delivery's end, so nothing can come afterwards.
    let begun = Instant::now();
    webhooks.drain(Duration::from_secs(20)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "the delivery has ended"
    );
    assert_eq!(receiver.at("/").len(), 3);
}

#[tokio::test]
async fn gone_stops_at_once_and_redirects_are_not_followed() {
    let receiver = Receiver::start().await;
    receiver.behave("/gone", Behaviour::Answer(StatusCode::GONE));
    let target = receiver.url("/target").to_string();
    receiver.behave(
        "/moved",
        Behaviour::AnswerWith(StatusCode::TEMPORARY_REDIRECT, "location", target),
    );
    let webhooks = webhooks(&[("PROMPT_WEBHOOK_RETRIES", "1")]);
    webhooks.deliver(delivery(receiver.url("/gone"), "1"));
    webhooks.deliver(delivery(receiver.url("/moved"), "2"));
    receiver.wait("/moved", 2).await;
    webhooks.drain(Duration::from_secs(20)).await;
    assert_eq!(
        (
            receiver.at("/gone").len(),
            receiver.at("/moved").len(),
            receiver.at("/target").len()
        ),
        (1, 2, 0)
    );
}

#[tokio::test]
async fn retry_after_is_obeyed_within_bounds() {
    let receiver = Receiver::start().await;
    receiver.behave(
        "/",
        Behaviour::AnswerWith(StatusCode::TOO_MANY_REQUESTS, "retry-after", "1".to_owned()),
    );
    webhooks(&[]).deliver(delivery(receiver.url("/"), "1"));
    receiver.wait("/", 1).await;
    receiver.behave(
        "/",
        Behaviour::AnswerWith(
            StatusCode::SERVICE_UNAVAILABLE,
            "retry-after",
            "999999".to_owned(),
        ),
    );
    let received = receiver.wait("/", 2).await;
    assert!(received[1].at - received[0].at >= Duration::from_millis(1000));
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    let received = receiver.wait("/", 3).await;
    let waited = received[2].at - received[1].at;
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(15),
        "999999 s is cut to the bound of 5 s: {waited:?}"
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_after_the_timeout() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Hang);
    receiver.behave("/unread", Behaviour::HangUnread);
    let webhooks = webhooks(&[("WEBHOOK_TIMEOUT_S", "2"), ("WEBHOOK_SECRET", SECRET)]);
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    let big = Document::from_text("x".repeat(20 << 20));
    webhooks.deliver(Delivery {
        kind: Kind::V2,
        url: receiver.url("/unread"),
        id: "2".into(),
        body: big,
        promise: None,
        trace: Default::default(),
    });
    receiver.wait("/", 1).await;
    receiver.wait("/unread", 1).await;
    receiver.behave("/", Behaviour::Answer(StatusCode::OK));
    receiver.behave("/unread", Behaviour::Answer(StatusCode::OK));
    let received = receiver.wait("/", 2).await;
    // The receiver's clock may have begun later than the sender's.
    assert!(received[1].at - received[0].at >= Duration::from_millis(1500));
    receiver
        .wait_until("/unread", Duration::from_secs(60), |received| {
            received.iter().any(|one| one.len == 20 << 20)
        })
        .await;
}

#[tokio::test]
async fn a_slow_reader_is_waited_for_as_long_as_it_reads() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::ReadSlowly(Duration::from_millis(60)));
    let webhooks = webhooks(&[("WEBHOOK_TIMEOUT_S", "5"), ("PROMPT_WEBHOOK_RETRIES", "0")]);
    let begun = Instant::now();
    let body = Document::from_text("x".repeat(100 << 20));
    webhooks.deliver(Delivery {
        kind: Kind::V2,
        url: receiver.url("/"),
        id: "2".into(),
        body,
        promise: None,
        trace: Default::default(),
    });
    let received = receiver
        .wait_until("/", Duration::from_secs(120), |received| {
            !received.is_empty()
        })
        .await;
    assert_eq!((received.len(), received[0].len), (1, 100 << 20));
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "the test is about transfers longer than the timeout"
    );
}

#[tokio::test]
async fn a_body_whose_file_has_vanished_is_given_up_at_once() {
    use comfyui_api::document::{EmbeddedFile, placeholder};
    let receiver = Receiver::start().await;
    let files = [EmbeddedFile {
        path: "/nonexistent/picture.png".into(),
        size: 1 << 20,
        content: None,
    }];
    let body = Document::with_files(&serde_json::json!([placeholder("m", 0)]), "m", &files, None);
    let webhooks = webhooks(&[
        ("WEBHOOK_SECRET", SECRET),
        ("PROMPT_WEBHOOK_RETRIES", "1000"),
    ]);
    for (kind, id) in [(Kind::V2, "1"), (Kind::Legacy, "2")] {
        webhooks.deliver(Delivery {
            kind,
            url: receiver.url("/"),
            id: id.into(),
            body: body.clone(),
            promise: None,
            trace: Default::default(),
        });
    }
    let begun = Instant::now();
    webhooks.drain(Duration::from_secs(60)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it was not retried"
    );
    assert!(receiver.at("/").is_empty());
}

#[tokio::test]
async fn draining_waits_for_deliveries_under_way() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Sequence(vec![StatusCode::BAD_GATEWAY; 2]));
    let webhooks = webhooks(&[]);
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    webhooks.drain(Duration::from_secs(20)).await;
    assert_eq!(
        receiver.at("/").last().unwrap().status,
        Some(StatusCode::OK)
    );
}

#[tokio::test]
async fn draining_ends_when_the_grace_period_does() {
    let receiver = Receiver::start().await;
    receiver.behave("/", Behaviour::Hang);
    let webhooks = webhooks(&[]);
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    receiver.wait("/", 1).await;
    let begun = Instant::now();
    webhooks.drain(Duration::from_millis(200)).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(5)
    );
}

/// Webhook URLs come from clients, so private addresses are refused when the connection is made,
/// for good.
#[tokio::test]
async fn a_private_address_is_refused_and_not_retried() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let spool = dir.path().to_str().unwrap();
    let webhooks = webhooks(&[
        ("ALLOW_PRIVATE_NETWORKS", "false"),
        ("PROMPT_WEBHOOK_RETRIES", "1000"),
        ("WEBHOOK_SPOOL_DIR", spool),
    ]);
    webhooks.deliver(delivery(receiver.url("/"), "1"));
    let mut by_name = receiver.url("/");
    by_name.set_host(Some("localhost")).unwrap();
    webhooks.deliver(delivery(by_name, "2"));
    let begun = Instant::now();
    webhooks.drain(Duration::from_secs(20)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "neither was retried"
    );
    assert!(
        receiver.at("/").is_empty() && super::files(dir.path()).is_empty(),
        "neither was sent, neither is kept"
    );
}

/// D08: receivers live in private networks; ComfyUI, loopback and metadata stay out of reach.
#[tokio::test]
async fn private_networks_are_reached_and_comfyui_is_not() {
    let check = |variables: &'static [(&'static str, &'static str)], url: String| async move {
        let mut all = vec![("ALLOW_PRIVATE_NETWORKS", "false")];
        all.extend(variables);
        let outbound = super::outbound(&super::config(&all));
        outbound.check_webhook(&url.parse().unwrap()).await
    };
    for (variables, url, reached) in [
        (&[][..], "http://10.1.2.3/hook", true),
        (&[], "http://192.168.7.7:8188/hook", true),
        (&[], "http://[fd12::1]:3000/hook", true),
        (&[], "http://100.64.1.1/hook", true),
        (&[], "http://127.0.0.1/hook", false),
        (&[], "http://169.254.169.254/latest", false),
        (&[], "http://100.100.100.200/latest", false),
        (&[], "http://localhost:3000/hook", false),
        (
            &[("WEBHOOK_ALLOW_PRIVATE", "false")],
            "http://10.1.2.3/hook",
            false,
        ),
        (
            &[("DIRECT_ADDRESS", "10.1.2.3")],
            "http://10.1.2.3:8188/prompt",
            false,
        ),
        (
            &[("DIRECT_ADDRESS", "10.1.2.3")],
            "http://10.1.2.3:9000/hook",
            true,
        ),
        (
            &[("HTTP_TRUSTED_ORIGINS", "http://10.1.2.3:9000")],
            "http://10.1.2.3:3000/hook",
            true,
        ),
        (
            &[("HTTP_TRUSTED_ORIGINS", "http://127.0.0.1:9000")],
            "http://127.0.0.1:9000/hook",
            true,
        ),
    ] {
        let checked = check(variables, url.to_owned()).await;
        assert_eq!(checked.is_ok(), reached, "{variables:?} {url} {checked:?}");
        if let Err(refused) = checked {
            let said = refused.to_string();
            assert!(
                said.contains("HTTP_TRUSTED_ORIGINS") && said.contains("ALLOW_PRIVATE_NETWORKS")
            );
        }
    }
    // This machine's own address, where there is one that others could reach.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    if let Ok(own) = own
        && !own.ip().is_loopback()
    {
        let comfyui = format!("http://{}:8188/interrupt", own.ip());
        assert!(check(&[], comfyui).await.is_err());
    }
}
