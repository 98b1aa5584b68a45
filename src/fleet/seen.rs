//! The instances, by what they say of themselves: registration, heartbeat, farewell.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lapin::message::Delivery;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use super::Inner;
use crate::timestamp;

/// Instances that are remembered at a time.
const MOST: usize = 10_000;
/// Of an instance that does not say how often its heart beats.
const USUAL: Duration = Duration::from_secs(5);
/// So many missed heartbeats are one too many.
const MISSED: u32 = 3;

#[derive(Debug, Clone)]
struct Instance {
    registration: Value,
    heartbeat: Value,
    last: Instant,
    last_seen: String,
    /// Zero: its heart does not beat.
    interval: Duration,
}

/// All that were heard of lately.
#[derive(Debug, Default)]
pub(super) struct Seen {
    all: Mutex<HashMap<String, Instance>>,
    /// The broker passes heartbeats on.
    hears: AtomicBool,
}

impl Seen {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Instance>> {
        self.all.lock()
    }

    /// Heartbeats come from now on, or do not. None is missed while none can come.
    pub(super) fn hears(&self, hears: bool) {
        let now = Instant::now();
        self.all().values_mut().for_each(|one| one.last = now);
        self.hears.store(hears, Ordering::Relaxed);
    }

    /// Takes out those that have missed too many heartbeats.
    pub(super) fn take_lost(&self) -> Vec<String> {
        if !self.hears.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut all = self.all();
        let lost: Vec<String> = all
            .iter()
            .filter(|(_, one)| {
                !one.interval.is_zero() && one.last.elapsed() > one.interval * MISSED
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &lost {
            all.remove(id);
        }
        lost
    }

    /// Whether one takes tasks of a queue and has nothing to do.
    pub(super) fn any_idle(&self, queue: &str) -> bool {
        self.all().values().any(|one| {
            let text = |name: &str| one.heartbeat.get(name).and_then(Value::as_str);
            text("queue") == Some(queue) && text("status") == Some("IDLE")
        })
    }

    /// One has got a task: it is idle no more until it says so.
    pub(super) fn busy(&self, id: &str) {
        if let Some(one) = self.all().get_mut(id) {
            one.heartbeat["status"] = "BUSY".into();
        }
    }

    /// One has ended its task, and has no other of ours: it is idle until it says otherwise.
    pub(super) fn free(&self, id: &str) {
        if let Some(one) = self.all().get_mut(id)
            && one.heartbeat.get("status").and_then(Value::as_str) == Some("BUSY")
        {
            one.heartbeat["status"] = "IDLE".into();
        }
    }

    /// As `GET /instances` shows them.
    pub(super) fn list(&self) -> Vec<Value> {
        let all = self.all();
        let mut list: Vec<Value> = all
            .iter()
            .map(|(id, one)| {
                let of = |value: &Value, name: &str| value.get(name).cloned().unwrap_or_default();
                let either = |name: &str| {
                    let newest = of(&one.heartbeat, name);
                    if newest.is_null() {
                        of(&one.registration, name)
                    } else {
                        newest
                    }
                };
                let models = one
                    .registration
                    .pointer("/capabilities/supported_models")
                    .cloned();
                json!({
                    "id": id,
                    "api_url": of(&one.registration, "api_url"),
                    "queue": either("queue"),
                    "type": of(&one.registration, "type"),
                    "status": of(&one.heartbeat, "status"),
                    "version": of(&one.registration, "version"),
                    "current_task_id": of(&one.heartbeat, "current_task_id"),
                    "gpu": one
                        .heartbeat
                        .pointer("/system_info/gpu")
                        .cloned()
                        .unwrap_or_else(|| json!([])),
                    "models": models.unwrap_or_else(|| json!([])),
                    "last_seen": one.last_seen,
                })
            })
            .collect();
        list.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        list
    }

    /// Whether an instance is known with more than its heartbeat.
    fn note(&self, id: &str, kind: &str, data: Value) -> bool {
        let mut all = self.all();
        if !all.contains_key(id) && all.len() >= MOST {
            return true;
        }
        let now = Instant::now();
        let one = all.entry(id.to_owned()).or_insert_with(|| Instance {
            registration: Value::Null,
            heartbeat: Value::Null,
            last: now,
            last_seen: String::new(),
            interval: USUAL,
        });
        one.last = now;
        one.last_seen = timestamp::now();
        if let Some(interval) = data.get("interval").and_then(Value::as_u64) {
            one.interval = Duration::from_millis(interval);
        }
        if kind == "instance_heartbeat" {
            one.heartbeat = data;
        } else {
            one.registration = data;
        }
        !one.registration.is_null()
    }

    /// What describes an instance that was only heard of by its heartbeat.
    pub(super) fn describe(&self, registration: Value) {
        let id = registration.get("instance_id").and_then(Value::as_str);
        let Some(id) = id.map(str::to_owned) else {
            return;
        };
        if let Some(one) = self.all().get_mut(&id)
            && one.registration.is_null()
        {
            one.registration = registration;
        }
    }
}

impl Inner {
    /// An instance says something of itself.
    pub(super) fn hear_of(self: &std::sync::Arc<Self>, delivery: &Delivery) {
        let Ok(mut envelope) = serde_json::from_slice::<Value>(&delivery.data) else {
            return;
        };
        let kind = envelope.get("event_type").and_then(Value::as_str);
        let kind = kind.unwrap_or_default().to_owned();
        let data = envelope
            .get_mut("data")
            .map(Value::take)
            .unwrap_or_default();
        let Some(id) = data.get("instance_id").and_then(Value::as_str) else {
            return;
        };
        let id = id.to_owned();
        if kind == "instance_unregister" {
            self.seen.all().remove(&id);
            return;
        }
        let hash = data.get("catalogue").and_then(Value::as_str);
        let hash = hash.map(str::to_owned);
        let known = self.seen.note(&id, &kind, data);
        let unknown = hash.filter(|hash| !self.catalogue.has(hash));
        if (unknown.is_some() || !known) && self.catalogue.may_ask(&id, unknown.as_deref()) {
            let inner = self.clone();
            tokio::spawn(async move { inner.ask_to_describe(&id).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_instance_is_missed_only_while_heartbeats_can_come() {
        let seen = Seen::default();
        let beat = json!({"status": "IDLE", "queue": "q", "interval": 1});
        let silent = || {
            seen.note("one", "instance_heartbeat", beat.clone());
            let long = Duration::from_secs(1);
            seen.all().values_mut().for_each(|one| one.last -= long);
        };
        silent();
        assert!(seen.take_lost().is_empty(), "nothing is connected yet");
        seen.hears(true);
        silent();
        seen.hears(false);
        silent();
        assert!(seen.take_lost().is_empty());
        assert_eq!(seen.list().len(), 1);
        seen.hears(true);
        silent();
        assert_eq!(seen.take_lost(), ["one"]);
        assert!(seen.list().is_empty());
    }

    #[test]
    fn ten_thousand_instances_are_remembered_and_no_more() {
        let seen = Seen::default();
        let beat = || json!({"status": "IDLE", "queue": "q"});
        for number in 0..MOST + 5 {
            seen.note(&format!("i{number}"), "instance_heartbeat", beat());
        }
        let list = seen.list();
        assert_eq!(list.len(), 10_000);
        let shown = |id: &str| list.iter().any(|one| one["id"] == id);
        assert!(shown("i0") && !shown("i10000"), "the first ones stay");
        // Those that are known are heard of still, and one that has gone makes room.
        seen.note("i0", "instance_register", json!({"version": "1"}));
        seen.all().remove("i1");
        seen.note("late", "instance_heartbeat", beat());
        let list = seen.list();
        assert!(list.iter().any(|one| one["version"] == "1"));
        assert!(list.iter().any(|one| one["id"] == "late"));
    }
}
