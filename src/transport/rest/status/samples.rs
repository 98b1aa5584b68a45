//! Memory, of the machine and of the first device, over the last ten minutes.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use super::{Measured, RouterState};
use crate::telemetry::logging::epoch_ms;

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(10);
/// Ten minutes.
const MOST: usize = 60;

/// Oldest first.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Mutex<VecDeque<Value>>,
}

impl Samples {
    /// All of them, as `GET /status?samples=true` answers.
    pub fn list(&self) -> Value {
        self.kept.lock().iter().cloned().collect()
    }

    fn add(&self, sample: Value) {
        let mut kept = self.kept.lock();
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(sample);
    }
}

/// Measures now and then, until the server ends.
pub async fn keep(state: RouterState) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = state.closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let measured = state.machine.measured(&state).await;
        state.machine.inner.samples.add(sample(&measured));
    }
}

/// Bytes in use and bytes there are; what is not known is not there.
fn sample(measured: &Measured) -> Value {
    let mut sample = Map::from_iter([("at".to_owned(), epoch_ms().into())]);
    let device = measured.stats.pointer("/devices/0");
    let vram = device.and_then(|device| used(device, "vram_total", "vram_free"));
    let memory = used(&measured.memory, "total", "free");
    for (name, of) in [("vram", vram), ("memory", memory)] {
        if let Some((used, total)) = of {
            sample.insert(format!("{name}_used"), used.into());
            sample.insert(format!("{name}_total"), total.into());
        }
    }
    Value::Object(sample)
}

fn used(of: &Value, total: &str, free: &str) -> Option<(u64, u64)> {
    let total = of.get(total)?.as_u64().filter(|total| *total > 0)?;
    let free = of.get(free)?.as_u64()?;
    Some((total.saturating_sub(free), total))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_more_than_ten_minutes_are_kept() {
        let samples = Samples::default();
        for number in 0..MOST + 2 {
            samples.add(json!(number));
        }
        let list = samples.list();
        assert_eq!(list.as_array().map(Vec::len), Some(MOST));
        assert_eq!((&list[0], &list[MOST - 1]), (&json!(2), &json!(MOST + 1)));
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let mut measured = Measured {
            memory: json!({"total": 8, "free": 3}),
            ..Measured::default()
        };
        let seen = sample(&measured);
        assert_eq!(
            (
                &seen["memory_used"],
                &seen["memory_total"],
                seen.get("vram_used")
            ),
            (&json!(5), &json!(8), None)
        );
        measured.stats = json!({"devices": [{"vram_total": 4, "vram_free": 4}]});
        assert_eq!(sample(&measured)["vram_used"], 0);
    }
}
