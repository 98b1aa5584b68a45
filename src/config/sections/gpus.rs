//! The GPUs of this machine, by `nvidia-smi`'s word (a static binary must not load NVML), as far as
//! an inherited `CUDA_VISIBLE_DEVICES` leaves them to us.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::{Reader, withhold_from_tool};

/// A driver in trouble makes the tool hang.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// One GPU.
struct Gpu {
    index: String,
    uuid: String,
}

/// What each may be called in `CUDA_VISIBLE_DEVICES`; empty where there is no tool, or it fails.
pub(super) fn visible(r: &Reader) -> Vec<String> {
    let gpus = listed(&ask().unwrap_or_default());
    match r.inherited("CUDA_VISIBLE_DEVICES") {
        Some(empty) if empty.is_empty() => Vec::new(),
        Some(inherited) => left(&inherited, &gpus),
        None => gpus.into_iter().map(|gpu| gpu.index).collect(),
    }
}

/// The first of these devices that `nvidia-smi` would show if it were there, with all that it
/// shows.
pub(super) fn missing<'a>(devices: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, String)> {
    let gpus = listed(&ask().unwrap_or_default());
    // Another vendor's, or a tool that fails.
    let first =
        (!gpus.is_empty()).then(|| devices.into_iter().find(|name| is_missing(name, &gpus)));
    let shown: Vec<&str> = gpus.iter().map(|gpu| gpu.index.as_str()).collect();
    Some((first??, shown.join(", ")))
}

fn is_missing(name: &str, gpus: &[Gpu]) -> bool {
    match name.parse::<u32>() {
        Ok(_) => !gpus.iter().any(|gpu| gpu.index == name),
        // MIG devices and words of other vendors are not for this tool to judge.
        Err(_) => name.starts_with("GPU-") && !gpus.iter().any(|gpu| gpu.uuid.starts_with(name)),
    }
}

fn ask() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    withhold_from_tool(&mut command);
    let mut tool = command
        .args(["--query-gpu=index,uuid", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match tool.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(None) | Err(_) => {
                let _ = tool.kill();
                let _ = tool.wait();
                return None;
            }
        }
    };
    // A few lines: they fit into the pipe.
    let mut text = String::new();
    tool.stdout.take()?.read_to_string(&mut text).ok()?;
    status.success().then_some(text)
}

fn listed(csv: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (index, uuid) = line.split_once(',')?;
        let (index, uuid) = (index.trim(), uuid.trim());
        index.parse::<u32>().ok()?;
        Some(Gpu {
            index: index.to_owned(),
            uuid: uuid.to_owned(),
        })
    };
    csv.lines().filter_map(gpu).collect()
}

/// As CUDA reads it: the first name that means nothing hides itself and all behind it.
fn left(inherited: &str, gpus: &[Gpu]) -> Vec<String> {
    let means_something = |name: &&str| {
        // `nvidia-smi` shows whole GPUs only.
        name.starts_with("MIG-")
            || gpus.iter().any(|gpu| gpu.index == *name)
            || name.starts_with("GPU-") && gpus.iter().any(|gpu| gpu.uuid.starts_with(name))
    };
    inherited
        .split(',')
        .map(str::trim)
        .take_while(means_something)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_choice_is_kept() {
        let gpus = listed("0, GPU-aa11\n1, GPU-bb22\nNo devices were found\n2, GPU-cc33\n");
        assert_eq!(gpus.len(), 3);
        for (inherited, expected) in [
            ("0,2", &["0", "2"][..]),
            ("1, 7, 0", &["1"]),
            ("GPU-bb,0", &["GPU-bb", "0"]),
            ("-1", &[]),
            ("MIG-9,MIG-8", &["MIG-9", "MIG-8"]),
        ] {
            assert_eq!(left(inherited, &gpus), expected, "{inherited}");
        }
        let missing = ["0", "3", "GPU-bb", "GPU-dd", "MIG-9"].map(|name| is_missing(name, &gpus));
        assert_eq!(missing, [false, true, false, true, false]);
    }
}
