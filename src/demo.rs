//! `comfyui-api demo`: the whole product with the simulator as its ComfyUI, in temporary
//! directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, Env};

/// A prepared demo; its directories are removed on drop.
pub struct Demo {
    env: BTreeMap<String, String>,
    dir: PathBuf,
}

/// What the name of every demo's directory begins with; the process id follows.
const DIR_PREFIX: &str = "comfyui-api-demo-";

/// Variables that name a real ComfyUI, as they are set in its container image. They mean nothing
/// here: the simulator takes its place.
const NOT_FOR_A_DEMO: &[&str] = &[
    "CMD",
    "BASE",
    "COMFY_HOME",
    "DIRECT_ADDRESS",
    "MANIFEST",
    "MANIFEST_JSON",
];

/// Endpoints to play with, as long as `WORKFLOW_DIR` names no others.
const WORKFLOWS: [(&str, &str); 6] = [
    ("create-image.json", include_str!("demo/create-image.json")),
    ("edit-image.json", include_str!("demo/edit-image.json")),
    ("failing.json", include_str!("demo/failing.json")),
    ("shape.json", include_str!("demo/shape.json")),
    ("slow.json", include_str!("demo/slow.json")),
    ("sound.json", include_str!("demo/sound.json")),
];

/// Makes the directories and the environment. Variables that are set win over the demo's own, but
/// for those of a real ComfyUI.
///
/// # Errors
/// When the directories cannot be made.
pub fn prepare(outer: &dyn Env) -> Result<Demo, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let temporary = std::env::temp_dir();
    remove_abandoned(&temporary);
    let dir = temporary.join(format!("{DIR_PREFIX}{}", std::process::id()));
    for sub in ["models/checkpoints", "input", "output", "workflows"] {
        std::fs::create_dir_all(dir.join(sub))
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    }
    // From here on the directory goes again whatever happens.
    let mut demo = Demo {
        env: BTreeMap::new(),
        dir,
    };
    // Graphs need a checkpoint to name. A safetensors file without tensors: the length of its
    // header, and the header.
    let checkpoint = demo.dir.join("models/checkpoints/demo.safetensors");
    std::fs::write(&checkpoint, b"\x02\0\0\0\0\0\0\0{}")
        .map_err(|error| format!("cannot make {}: {error}", checkpoint.display()))?;
    for (name, text) in WORKFLOWS {
        let file = demo.dir.join("workflows").join(name);
        std::fs::write(&file, text)
            .map_err(|error| format!("cannot make {}: {error}", file.display()))?;
    }
    let mut set: BTreeMap<String, String> = outer
        .all()
        .into_iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .collect();
    set.retain(|name, _| !NOT_FOR_A_DEMO.contains(&name.as_str()));
    let port = set
        .get("COMFYUI_PORT_HOST")
        .cloned()
        .map_or_else(free_port, Ok)?;
    let home = demo.dir.display().to_string();
    let own = [
        (
            "CMD",
            shell_words::join(simulator(&program, &set, &port, &home)),
        ),
        ("COMFY_HOME", home.clone()),
        ("COMFYUI_PORT_HOST", port),
        ("CACHE_DIR", format!("{home}/cache")),
        ("WORKFLOW_DIR", format!("{home}/workflows")),
        ("STATE_DIR", format!("{home}/state")),
        ("ALWAYS_RESTART_COMFYUI", "true".to_owned()),
    ];
    demo.env.extend(
        own.into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    demo.env.extend(set);
    Ok(demo)
}

/// The command of the simulated ComfyUI.
fn simulator(
    program: &Path,
    set: &BTreeMap<String, String>,
    port: &str,
    home: &str,
) -> Vec<String> {
    let mut command = vec![program.display().to_string(), "simulate-comfyui".to_owned()];
    let mut option = |flag: &str, value: Option<&str>| {
        command.extend(
            value
                .into_iter()
                .flat_map(|value| [flag.to_owned(), value.to_owned()]),
        )
    };
    option("--port", Some(port));
    // A moment for each step, so that there is something to watch.
    option("--step-ms", Some("25"));
    option("--base-directory", Some(home));
    for (flag, name) in [
        ("--input-directory", "INPUT_DIR"),
        ("--output-directory", "OUTPUT_DIR"),
        ("--models-directory", "MODEL_DIR"),
    ] {
        option(flag, set.get(name).map(String::as_str));
    }
    command
}

/// Removes what demos have left that were killed.
fn remove_abandoned(temporary: &Path) {
    let Ok(entries) = std::fs::read_dir(temporary) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name
            .to_str()
            .and_then(|name| name.strip_prefix(DIR_PREFIX))
            .and_then(|id| id.parse::<u32>().ok())
        else {
            continue;
        };
        // Where there is no /proc nobody can tell.
        if Path::new("/proc/self").exists()
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A port that is free now. Another program may take it before the simulator does; then the start
/// fails with a clear error.
fn free_port() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")
        .map_err(|error| format!("cannot find a free port: {error}"))?;
    listener
        .local_addr()
        .map(|address| address.port().to_string())
        .map_err(|error| error.to_string())
}

impl Demo {
    /// The demo's configuration.
    ///
    /// # Errors
    /// When variables that were set are wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::from_env(&self.env).map(|config| Config {
            demo: true,
            ..config
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_is_a_simulator_whatever_the_image_sets() {
        let abandoned = std::env::temp_dir().join(format!("{DIR_PREFIX}{}", u32::MAX));
        std::fs::create_dir_all(&abandoned).unwrap();
        let outer = [
            ("CMD", "python main.py"),
            ("COMFY_HOME", "/opt/real"),
            ("OUTPUT_DIR", "/tmp/my out"),
            ("PORT", "4000"),
            ("INPUT_DIR", " "),
        ];
        let outer: BTreeMap<String, String> = outer
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let demo = prepare(&outer).unwrap();
        let config = demo.config().unwrap();
        assert!(
            config
                .comfy
                .command
                .windows(2)
                .any(|pair| pair == ["--output-directory", "/tmp/my out"]),
            "{:?}",
            config.comfy.command
        );
        assert!(
            config
                .comfy
                .command
                .contains(&"simulate-comfyui".to_owned())
                && !config
                    .comfy
                    .command
                    .contains(&"--input-directory".to_owned())
        );
        assert_eq!(
            (
                config.server.port,
                config.comfy.home.as_path(),
                config.comfy.output_dir.as_path()
            ),
            (4000, demo.dir.as_path(), Path::new("/tmp/my out"))
        );
        assert!(!abandoned.exists() && demo.dir.exists());
        let dir = demo.dir.clone();
        drop(demo);
        assert!(!dir.exists());
    }
}
