use super::*;

fn begin(deliveries: &Deliveries, kind: &'static str) -> DeliveryRecord {
    let url = "https://u:p@h.example/x?token=marked".parse().unwrap();
    deliveries.begin(&About {
        kind,
        url: &url,
        prompt_id: Some("a"),
        size: 3,
    })
}

fn failed() -> Outcome {
    Outcome::Failed {
        reason: "it answered 500".into(),
        status: Some(reqwest::StatusCode::INTERNAL_SERVER_ERROR),
        asked: None,
    }
}

#[test]
fn a_delivery_is_followed_from_its_first_attempt_to_its_end() {
    let deliveries = Deliveries::default();
    let record = begin(&deliveries, "v2");
    record.attempted(Instant::now(), &failed());
    record.waits(Duration::from_secs(5));
    let entry = deliveries.all().remove(0);
    assert_eq!(entry.status, DeliveryStatus::Waiting);
    assert!(entry.next_at > Some(entry.created_at) && entry.url == "https://h.example/x");
    deliveries.next_round_in(Duration::from_secs(60));
    record.stays_in_spool(&"f".into(), "r");
    let entry = deliveries.all().remove(0);
    assert_eq!(entry.status, DeliveryStatus::Failed);
    assert!(entry.next_at > Some(entry.created_at + 50_000));
    let again = deliveries.spooled(&"f".into()).unwrap();
    again.sends();
    assert!(deliveries.spooled(&"f".into()).is_none());
    again.attempted(
        Instant::now(),
        &Outcome::Delivered(reqwest::StatusCode::NO_CONTENT),
    );
    again.delivered();
    let entry = deliveries.all().remove(0);
    let statuses: Vec<_> = entry
        .attempts
        .iter()
        .map(|attempt| attempt.status)
        .collect();
    assert_eq!(
        (entry.status, entry.next_at, statuses),
        (DeliveryStatus::Delivered, None, vec![Some(500), Some(204)])
    );
    for _ in 0..100 {
        record.attempted(Instant::now(), &failed());
    }
    record.lost(Some("it answered 500"));
    let entry = deliveries.all().remove(0);
    assert_eq!(
        (entry.attempts.len(), entry.error),
        (MAX_ATTEMPTS_LISTED, None)
    );
}

#[test]
fn events_make_room_for_what_was_not_delivered() {
    let deliveries = Deliveries::default();
    begin(&deliveries, "v2").delivered();
    for _ in 0..MAX_DELIVERIES + 50 {
        begin(&deliveries, "system").delivered();
    }
    let all = deliveries.all();
    assert_eq!(all.len(), MAX_DELIVERIES);
    assert_eq!(all.last().unwrap().kind, "v2");
}
