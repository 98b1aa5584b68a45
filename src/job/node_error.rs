//! What a node's error means: a fault of the graph, of this machine, or of the GPU (faults.md F24,
//! attack.md A42).

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::comfy::Comfy;
use crate::comfy::fault::Fault;
use crate::config::{public_text, public_value};
use crate::error::{Code, Failure};
use crate::telemetry::metrics;

/// After one of these no kernel runs in that process any more.
const GPU_IS_LOST: [&str; 8] = [
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "uncorrectable ecc",
    "invalid device",
    "device lost",
    "device unavailable",
];
/// PyTorch ends every message of CUDA with this advice, also that of a lack of memory.
const ADVICE: &str = "to enable device-side assertions";
/// Errors of the system that say that this machine cannot write: I/O, open files, full, read-only,
/// quota.
const CANNOT_WRITE: [u32; 5] = [5, 24, 28, 30, 122];
/// The same, where a library leaves the number out.
const CANNOT_WRITE_TEXTS: [&str; 4] = [
    "no space left on device",
    "disk quota exceeded",
    "read-only file system",
    "too many open files",
];

/// How Python and Rust write the number of a system error.
#[expect(clippy::expect_used, reason = "a literal, seen by the tests below")]
static ERROR_NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:\[Errno |Os \{ code: |\(os error )(\d{1,4})").expect("a valid pattern")
});

/// The failure of a prompt whose node raised. Whoever keeps ComfyUI alive is told of a lost GPU,
/// and of folders that cannot be written.
pub(super) fn node_error(comfy: &Comfy, comfy_id: &str, data: &Value) -> Failure {
    let text = |name: &str| {
        data.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
    };
    let (kind, said) = (text("exception_type"), text("exception_message"));
    let message = if said.is_empty() { kind } else { said };
    let node = format!("node {} ({})", text("node_id"), text("node_type"));
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = format!("{kind}: {said}");
    let failure = if gpu_is_lost(&all) {
        let why = public_text(&format!(
            "the GPU is lost after an error of {node}: {one_line}"
        ));
        metrics::gpu_fault(comfy.label());
        tracing::error!(
            instance = comfy.label(),
            reason = why,
            "the GPU can no longer be used by this ComfyUI"
        );
        // The entry stays: as long as it is there, ComfyUI is the same process.
        comfy.client.keep_as_mark(comfy_id);
        comfy.faults.report(Fault::Gpu(bounded(why)));
        let failed = format!("{node} failed: {one_line}");
        let mut failure = Failure::new(Code::ExecutionError, public_text(&failed)).transient();
        // Another GPU may do. A graph that ruins every GPU must not visit all of them.
        failure.attempts = Some(2);
        failure
    } else if cannot_write(&all, &comfy.folders) {
        comfy.faults.suspect_folders();
        let failed = format!("{node} failed because this machine cannot write: {one_line}");
        Failure::new(Code::ComfyuiUnavailable, public_text(&failed))
    } else {
        let failed = format!("{node} failed: {one_line}");
        Failure::new(Code::ExecutionError, public_text(&failed))
    };
    failure.with_details(details(data))
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn details(data: &Value) -> Value {
    let mut details = Map::new();
    for name in [
        "node_id",
        "node_type",
        "exception_type",
        "exception_message",
        "traceback",
    ] {
        // A node that fetches something itself may repeat a URL with its credentials.
        details.insert(
            name.to_owned(),
            public_value(data.get(name).cloned().unwrap_or_default()),
        );
    }
    details.into()
}

/// Whether an error (its type and message) means that the GPU is unusable for the process that saw
/// it.
fn gpu_is_lost(error: &str) -> bool {
    let error = error.to_lowercase().replace(ADVICE, "");
    (error.contains("cuda error") || error.contains("hip error"))
        && !error.contains("out of memory")
        && GPU_IS_LOST.iter().any(|sign| error.contains(sign))
}

/// Whether an error (its type and message) means that this machine cannot write.
fn cannot_write(error: &str, folders: &[PathBuf]) -> bool {
    let ours = || folders.iter().filter(|folder| names(error, folder));
    let by_number = ERROR_NUMBER
        .captures_iter(error)
        .filter_map(|found| found.get(1)?.as_str().parse::<u32>().ok())
        .any(|number| match number {
            // Not permitted: a client may name a path that is not for it; only ours are our
            // business.
            1 | 13 => ours().next().is_some(),
            // Not there: the folder itself was removed.
            2 => ours().any(|folder| !folder.is_dir()),
            number => CANNOT_WRITE.contains(&number),
        });
    let lower = error.to_lowercase();
    by_number || CANNOT_WRITE_TEXTS.iter().any(|text| lower.contains(text))
}

/// Whether a text names a path that is a folder or lies below it.
fn names(text: &str, folder: &Path) -> bool {
    let folder = folder.to_string_lossy();
    text.match_indices(folder.as_ref()).any(|(at, _)| {
        text[at + folder.len()..]
            .chars()
            .next()
            .is_none_or(|next| matches!(next, '/' | '\'' | '"' | ' ' | ':' | ',' | ')'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F24
    #[test]
    fn a_lost_gpu_is_told_from_a_full_one() {
        for lost in [
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "torch.AcceleratorError: CUDA error: device-side assert triggered\nCompile with \
             `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
            "RuntimeError: HIP error: unspecified launch failure",
            "RuntimeError: CUDA error: uncorrectable ECC error encountered",
            "RuntimeError: CUDA error: misaligned address",
        ] {
            assert!(gpu_is_lost(lost), "{lost}");
        }
        for alive in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously \
             reported.\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
            "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
            "RuntimeError: CUDA error: no kernel image is available\nCompile with \
             `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
            "ValueError: illegal memory access",
        ] {
            assert!(!gpu_is_lost(alive), "{alive}");
        }
    }

    /// A42
    #[test]
    fn what_this_machine_cannot_write_is_told_from_what_a_graph_may_not() {
        let gone = PathBuf::from("/nonexistent/output");
        let folders = [PathBuf::from("/"), gone.clone()].map(|root| match root.to_str() {
            Some("/") => std::env::temp_dir(),
            _ => root,
        });
        let tmp = std::env::temp_dir().display().to_string();
        for ours in [
            "OSError: [Errno 28] No space left on device: '/x/a.png'".to_owned(),
            "OSError: [Errno 122] Disk quota exceeded".to_owned(),
            "OSError: [Errno 30] Read-only file system: '/x'".to_owned(),
            "OSError: [Errno 5] Input/output error".to_owned(),
            "OSError: [Errno 24] Too many open files: '/x'".to_owned(),
            "SafetensorError: IoError(Os { code: 28, kind: StorageFull, message: \"full\" })"
                .to_owned(),
            format!("PermissionError: [Errno 13] Permission denied: '{tmp}/a.png'"),
            "FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/output/a.png'"
                .to_owned(),
        ] {
            assert!(cannot_write(&ours, &folders), "{ours}");
        }
        for theirs in [
            "PermissionError: [Errno 13] Permission denied: '/etc/shadow'".to_owned(),
            format!("PermissionError: [Errno 13] Permission denied: '{tmp}-other/a.png'"),
            format!("FileNotFoundError: [Errno 2] No such file or directory: '{tmp}/a.png'"),
            "ConnectionRefusedError: [Errno 111] Connection refused".to_owned(),
            "ValueError: 28 is too many".to_owned(),
        ] {
            assert!(!cannot_write(&theirs, &folders), "{theirs}");
        }
    }
}
