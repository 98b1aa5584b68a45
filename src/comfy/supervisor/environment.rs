//! The environment that the ai-dock images keep in shell files (`BASE=ai-dock`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::config::withhold_from_comfyui;

/// Where those images keep it.
pub(super) const AI_DOCK_ROOT: &str = "/opt/ai-dock";
/// Sourcing three files is a matter of milliseconds; this bounds a script that waits for something.
const LONGEST_LOAD: Duration = Duration::from_secs(60);

/// What the files may print goes to stderr, so that stdout holds the environment and nothing else.
const SCRIPT: &str = r#"{ source "$1/etc/environment.sh" && source "$1/bin/venv-set.sh" comfyui && source "$COMFYUI_VENV/bin/activate"; } >&2 && exec env -0"#;

/// Sources the image's environment files below `root` in bash (no login shell: /etc/profile would
/// reset `PATH`) and returns the whole environment that results.
///
/// # Errors
/// A sentence with bash's last line, when a file is missing or fails.
pub async fn ai_dock_environment(root: &Path) -> Result<Vec<(OsString, OsString)>, String> {
    let failed = |why: &str| {
        format!(
            "BASE=ai-dock, but its environment could not be loaded from {}: {why}. Unset BASE if \
             this is not an ai-dock image",
            root.display()
        )
    };
    let mut command = Command::new("bash");
    withhold_from_comfyui(command.as_std_mut());
    command
        .args(["-c", SCRIPT, "bash"])
        .arg(root)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout(LONGEST_LOAD, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(&format!("bash cannot be run ({error})"))),
        Err(_) => return Err(failed("it takes too long")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(
            said.lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or("bash said nothing")
                .trim(),
        ));
    }
    Ok(output
        .stdout
        .split(|byte| *byte == 0)
        .filter_map(variable)
        .collect())
}

fn variable(entry: &[u8]) -> Option<(OsString, OsString)> {
    let equals = entry.iter().position(|byte| *byte == b'=')?;
    let (name, value) = entry.split_at(equals);
    // `_` is bash's note to itself about `env`.
    (!name.is_empty() && name != b"_").then(|| {
        (
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.get(1..).unwrap_or_default().to_vec()),
        )
    })
}
