use bytes::Bytes;

use super::*;
use crate::events::SystemEvent;

fn message(key: &str, class: Class) -> OutboxMessage {
    OutboxMessage::new(key.into(), Body::Ready(Bytes::from_static(b"x")), class)
}

fn keys(outbox: &Outbox) -> Vec<String> {
    std::iter::from_fn(|| outbox.take().ok())
        .map(|taken| taken.routing_key.to_string())
        .collect()
}

#[tokio::test]
async fn what_is_not_confirmed_comes_again_in_its_order() {
    let outbox = Outbox::new(0);
    outbox.post(message("a", Class::Event));
    outbox.post(message("s", Class::Stream));
    let mut confirmed = outbox.post_confirmed("r".into(), Bytes::new());
    let first = outbox.next().await;
    outbox.settle(first.number, Some(Receipt::Confirmed));
    assert_eq!(keys(&outbox), ["s", "r"]);
    outbox.rewind();
    assert!(confirmed.try_recv().is_err());
    let again = outbox.next().await;
    assert_eq!(&*again.routing_key, "r", "a stream event is not repeated");
    outbox.settle(again.number, None);
    // After a short wait, because the broker refused it.
    let again = outbox.next().await;
    outbox.settle(again.number, Some(Receipt::Confirmed));
    confirmed.await.unwrap();
    outbox.flushed().await;
}

#[test]
fn stream_events_are_dropped_first_and_results_never() {
    let outbox = Outbox::new(0);
    for _ in 0..MAX_WAITING {
        outbox.post(message("stream.progress", Class::Stream));
    }
    for _ in 0..10 {
        outbox.post(message("event", Class::Event));
    }
    let kept = keys(&outbox);
    assert_eq!(
        (
            kept.len(),
            kept.iter().filter(|key| *key == "event").count()
        ),
        (MAX_WAITING, 10)
    );
    for _ in 0..MAX_WAITING + 5 {
        outbox.post(message("result", Class::Result));
    }
    outbox.post(message("event", Class::Event));
    assert_eq!(keys(&outbox).len(), MAX_WAITING + 5);
}

#[test]
fn what_the_broker_refuses_waits_longer_each_time_and_holds_nobody_up() {
    let outbox = Outbox::new(0);
    outbox.post(message("refused", Class::Event));
    for wait in [200, 400, 800] {
        let before = Instant::now();
        outbox.settle(outbox.take().unwrap().number, None);
        outbox.post(message("other", Class::Event));
        let other = outbox.take().unwrap();
        assert_eq!(&*other.routing_key, "other");
        outbox.settle(other.number, Some(Receipt::Confirmed));
        let again = outbox.take().unwrap_err().unwrap() - before;
        assert!((wait..wait + 190).contains(&again.as_millis()), "{again:?}");
        // A new connection may do better at once.
        outbox.rewind();
    }
}

#[test]
fn events_count_with_what_they_hold_and_the_largest_result_has_room() {
    let outbox = Outbox::new(8 << 20);
    let data = Arc::new(serde_json::json!({"image_data": "x".repeat(1 << 20)}));
    for _ in 0..100 {
        let event = Arc::new(SystemEvent {
            source: crate::events::Source::Comfy,
            name: "binary_preview".into(),
            data: Arc::clone(&data),
            prompt: None,
        });
        outbox.post(OutboxMessage::new(
            "preview".into(),
            Body::Event {
                task_id: None,
                event,
                at_ms: 0,
            },
            Class::Stream,
        ));
    }
    outbox.post(OutboxMessage::new(
        "result".into(),
        Body::Ready(Bytes::from(vec![0; 8 << 20])),
        Class::Event,
    ));
    let kept = keys(&outbox);
    assert!(
        (50..72).contains(&kept.len()) && kept.last().unwrap() == "result",
        "{}",
        kept.len()
    );
}
