//! Figures of NVIDIA GPUs. The static binary cannot load NVML (dependencies.md, 2.3), so that its
//! command line tool is asked.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

/// A driver in trouble makes the tool hang.
const TIMEOUT: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;

/// One GPU. Memory in bytes, utilization in percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) memory_used: u64,
    pub(super) memory_total: u64,
    pub(super) utilization: Option<u64>,
}

impl Gpu {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "memory_used": self.memory_used,
            "memory_total": self.memory_total,
            "utilization": self.utilization
        })
    }
}

/// The GPUs of now; nothing when `nvidia-smi` is not installed. A tool that fails or hangs shows no
/// GPUs this time.
pub(super) async fn query() -> Option<Vec<Gpu>> {
    let mut command = Command::new("nvidia-smi");
    crate::config::withhold_from_tool(command.as_std_mut());
    command.args([
        "--query-gpu=name,memory.used,memory.total,utilization.gpu",
        "--format=csv,noheader,nounits",
    ]);
    command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) => Some(parse(&String::from_utf8_lossy(&output.stdout))),
        Ok(Err(error))
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            None
        }
        Ok(Err(_)) | Err(_) => Some(Vec::new()),
    }
}

fn parse(csv: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        // The name comes first and may hold commas.
        let mut fields = line.rsplitn(4, ',').map(str::trim);
        let utilization = fields.next()?.parse().ok();
        let memory_total = fields.next()?.parse::<u64>().ok()? * MIB;
        let memory_used = fields.next()?.parse::<u64>().ok()? * MIB;
        Some(Gpu {
            name: fields.next()?.to_owned(),
            memory_used,
            memory_total,
            utilization,
        })
    };
    csv.lines().filter_map(gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tool_are_understood() {
        let gpus = parse(
            "NVIDIA GeForce RTX 4090, 1024, 24564, 37\nNVIDIA H100, MIG, 1, 2, [N/A]\nNo devices \
             were found\n",
        );
        let (first, second) = (&gpus[0], &gpus[1]);
        assert_eq!(
            (first.name.as_str(), first.memory_used, first.utilization),
            ("NVIDIA GeForce RTX 4090", 1024 * MIB, Some(37))
        );
        assert_eq!(
            (
                second.name.as_str(),
                second.memory_total,
                second.utilization
            ),
            ("NVIDIA H100, MIG", 2 * MIB, None)
        );
        assert_eq!(gpus.len(), 2);
    }
}
