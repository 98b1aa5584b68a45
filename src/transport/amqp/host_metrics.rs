//! How the machine is: processor over the last interval, memory, GPUs. Measured beside the
//! heartbeat's timer.

use std::time::Duration;

use tokio::sync::watch;

use super::gpu::{self, Gpu};

/// The newest figures.
#[derive(Debug, Clone, Default)]
pub(super) struct Vitals {
    /// Percent over the last interval.
    pub(super) cpu_usage: f64,
    /// Percent of the machine's memory.
    pub(super) memory_usage: f64,
    /// Both were measured at least once.
    pub(super) measured: bool,
    pub(super) gpus: Vec<Gpu>,
    /// The GPUs were looked for at least once.
    pub(super) gpus_looked: bool,
}

/// The slowest pace at which figures are refreshed is the heartbeat's; this is the fastest.
const FASTEST: Duration = Duration::from_millis(100);
/// Before the first figure: long enough for the kernel's ticks of 10 ms.
const FIRST: Duration = Duration::from_millis(250);
/// `nvidia-smi` costs some 50 ms of processor; it is not asked more often than this.
const GPU_INTERVAL: Duration = Duration::from_secs(5);

/// Measures processor and memory for ever.
pub(super) async fn measure(host_metrics: watch::Sender<Vitals>, interval: Duration) {
    let mut before = processor().await;
    // The first figure is of this short while, since nothing has been measured before.
    tokio::time::sleep(FIRST).await;
    let mut timer = tokio::time::interval(interval.max(FASTEST));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let (now, meminfo) = tokio::join!(processor(), tokio::fs::read_to_string("/proc/meminfo"));
        let cpu = match (before, now) {
            (Some((busy_before, all_before)), Some((busy, all))) => {
                percent(busy - busy_before, all - all_before)
            }
            _ => None,
        };
        before = now.or(before);
        let memory = meminfo.ok().as_deref().and_then(memory_usage);
        host_metrics.send_modify(|host_metrics| {
            host_metrics.cpu_usage = cpu.unwrap_or(host_metrics.cpu_usage);
            host_metrics.memory_usage = memory.unwrap_or(host_metrics.memory_usage);
            host_metrics.measured = true;
        });
    }
}

/// Measures GPUs for ever, or ends when there is no way to.
pub(super) async fn measure_gpus(host_metrics: watch::Sender<Vitals>, interval: Duration) {
    loop {
        let gpus = gpu::query().await;
        let possible = gpus.is_some();
        host_metrics.send_modify(|host_metrics| {
            host_metrics.gpus_looked = true;
            host_metrics.gpus = gpus.unwrap_or_default();
        });
        if !possible {
            return;
        }
        tokio::time::sleep(interval.max(GPU_INTERVAL)).await;
    }
}

async fn processor() -> Option<(f64, f64)> {
    processor_ticks(&tokio::fs::read_to_string("/proc/stat").await.ok()?)
}

/// Busy and all ticks of all processors together.
fn processor_ticks(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0.0);
    let all: f64 = ticks.iter().sum();
    Some((all - idle, all))
}

fn memory_usage(meminfo: &str) -> Option<f64> {
    let field = |name: &str| {
        meminfo.lines().find_map(|line| {
            line.strip_prefix(name)?
                .split_ascii_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        })
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    percent(total - available, total)
}

/// With one decimal.
fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (1000.0 * part / whole).round().clamp(0.0, 1000.0) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_procfs() {
        assert_eq!(
            processor_ticks("cpu  10 0 10 70 10 0 0 0 5 5\ncpu0 1 1 1 1\n"),
            Some((20.0, 100.0))
        );
        assert_eq!(processor_ticks("nothing"), None);
        assert_eq!(
            memory_usage("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   250 kB\n"),
            Some(75.0)
        );
        assert_eq!(percent(1.0, 0.0), None);
    }
}
