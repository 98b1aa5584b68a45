//! `comfyui-api demo`: the whole product with the simulator as its ComfyUI, in temporary directories.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Config, ConfigError, Env};

/// A prepared demo; its directories are removed on drop.
pub struct Demo {
    env: BTreeMap<String, String>,
    dir: PathBuf,
}

/// Makes the directories and the environment. Variables that are set win over the demo's own.
///
/// # Errors
/// When the directories cannot be made.
pub fn prepare(outer: &dyn Env) -> Result<Demo, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let dir = std::env::temp_dir().join(format!("comfyui-api-demo-{}", std::process::id()));
    for sub in ["models/checkpoints", "input", "output", "workflows"] {
        std::fs::create_dir_all(dir.join(sub)).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    }
    // Graphs need a checkpoint to name. A safetensors file without tensors: the length of its header, and the header.
    let checkpoint = dir.join("models/checkpoints/demo.safetensors");
    std::fs::write(&checkpoint, b"\x02\0\0\0\0\0\0\0{}").map_err(|error| format!("cannot make {}: {error}", checkpoint.display()))?;
    let port = outer.get("COMFYUI_PORT_HOST").filter(|port| !port.trim().is_empty()).map_or_else(free_port, Ok)?;
    let home = dir.display().to_string();
    let command = shell_words::join([&program.display().to_string(), "simulate-comfyui", "--port", &port, "--base-directory", &home]);
    let mut env: BTreeMap<String, String> = [
        ("CMD", command),
        ("COMFY_HOME", home.clone()),
        ("COMFYUI_PORT_HOST", port),
        ("CACHE_DIR", format!("{home}/cache")),
        ("WORKFLOW_DIR", format!("{home}/workflows")),
        ("ALWAYS_RESTART_COMFYUI", "true".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    env.extend(outer.all().into_iter().filter(|(_, value)| !value.trim().is_empty()));
    Ok(Demo { env, dir })
}

/// A port that is free now. Another program may take it before the simulator does; then the start fails with a clear error.
fn free_port() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| format!("cannot find a free port: {error}"))?;
    listener.local_addr().map(|address| address.port().to_string()).map_err(|error| error.to_string())
}

impl Demo {
    /// The demo's configuration.
    ///
    /// # Errors
    /// When variables that were set are wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::from_env(&self.env)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
