//! Metrics for Prometheus: [`declared`] names them, [`record`] is what the parts of the product
//! call, [`zero`] shows each family before something has happened.

mod declared;
mod record;
mod zero;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use record::*;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Samples since the start, and how many of them are gathered before they are counted into their
/// buckets.
static RECORDED: AtomicU64 = AtomicU64::new(0);
const UPKEEP_EVERY: u64 = 1024;

/// Seconds, from a fast node to a long video.
const DURATION_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
];

/// Installs the recorder for the whole process. A second call changes nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), DURATION_BUCKETS);
        let recorder = builder
            .map(PrometheusBuilder::build_recorder)
            .unwrap_or_else(|_| PrometheusBuilder::new().build_recorder());
        let handle = recorder.handle();
        // Fails only when another recorder is there already, which can only be ours.
        let _ = metrics::set_global_recorder(recorder);
        zero::register();
        handle
    });
}

/// Samples pile up until somebody asks for metrics, and perhaps nobody ever does.
fn recorded() {
    if RECORDED.fetch_add(1, Ordering::Relaxed) % UPKEEP_EVERY == UPKEEP_EVERY - 1
        && let Some(handle) = HANDLE.get()
    {
        handle.run_upkeep();
    }
}

/// The Prometheus text of everything recorded, or nothing before [`install`].
pub fn render() -> String {
    HANDLE
        .get()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}
