//! Video and sound through the `ffmpeg` command: whether it is there, and one run of it.

pub(super) mod arguments;
mod frames;
mod process;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::process::Command;

pub(super) use self::frames::{feed, plan};
pub(super) use self::process::run;
use super::options::{Conversion, Target};
use crate::config::{MediaConfig, withhold_from_tool};
use crate::error::Failure;
use crate::process::KilledGroup;

/// How long a good answer counts.
const REMEMBER_PRESENT: Duration = Duration::from_secs(60);
/// How long "there is none" counts: short, because somebody may be installing it.
const REMEMBER_MISSING: Duration = Duration::from_secs(2);
/// How long listing the encoders may take before it is given up.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// What was found out about the command.
#[derive(Debug, Clone)]
enum Presence {
    /// It runs; these are its encoders, unless it would not say.
    Present(Option<Arc<HashSet<String>>>),
    /// It cannot be started, for this reason.
    Missing(String),
}

/// The command and what is known of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ffmpeg {
    pub(super) command: PathBuf,
    pub(super) timeout: Duration,
    presence: Arc<Mutex<Option<(Instant, Presence)>>>,
}

impl Ffmpeg {
    pub(super) fn new(config: &MediaConfig) -> Self {
        Self {
            command: config.ffmpeg.clone(),
            timeout: config.ffmpeg_timeout,
            presence: Arc::default(),
        }
    }

    /// Whether this conversion can be done, with the encoder that it needs.
    pub(super) async fn check(&self, conversion: &Conversion) -> Result<(), Failure> {
        let (encoder, named) = match &conversion.target {
            Target::Video(options) => (options.codec.encoder(), "codec"),
            Target::Audio(options) => (options.codec, "codec"),
            Target::Jpeg(_) | Target::Webp(_) | Target::Png(_) => return Ok(()),
        };
        match self.presence().await {
            Presence::Missing(reason) => Err(Failure::invalid(
                "convert_output.format",
                format!(
                    "convert_output.format \"{}\" needs the ffmpeg command, which cannot be \
                     started here ({reason}); install ffmpeg or set FFMPEG_PATH.",
                    conversion.format
                ),
            )),
            Presence::Present(Some(encoders)) if !encoders.contains(encoder) => {
                Err(Failure::invalid(
                    format!("convert_output.options.{named}"),
                    format!(
                        "The ffmpeg that is installed here has no encoder {encoder}, which \
                         convert_output needs; choose another codec."
                    ),
                ))
            }
            Presence::Present(_) => Ok(()),
        }
    }

    /// Whether the command can be started.
    pub(super) async fn is_there(&self) -> bool {
        matches!(self.presence().await, Presence::Present(_))
    }

    async fn presence(&self) -> Presence {
        let known = self.presence.lock().clone();
        if let Some((since, presence)) = known {
            let remember = if matches!(presence, Presence::Missing(_)) {
                REMEMBER_MISSING
            } else {
                REMEMBER_PRESENT
            };
            if since.elapsed() < remember {
                return presence;
            }
        }
        let presence = self.ask().await;
        *self.presence.lock() = Some((Instant::now(), presence.clone()));
        presence
    }

    /// Starting the command is the only question that finds it exactly as a conversion will.
    async fn ask(&self) -> Presence {
        let arguments = ["-hide_banner", "-loglevel", "error", "-encoders"].map(OsString::from);
        let mut command = Command::new(&self.command);
        withhold_from_tool(command.as_std_mut());
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Presence::Missing(error.kind().to_string()),
        };
        let group = KilledGroup::of(&child);
        let listed = tokio::time::timeout(LIST_TIMEOUT, child.wait_with_output()).await;
        if let Ok(Ok(output)) = listed {
            group.ended();
            let encoders: HashSet<String> = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| {
                    let mut words = line.split_whitespace();
                    words.next().filter(|flags| flags.len() == 6)?;
                    words.next().map(str::to_owned)
                })
                .collect();
            // A wrapper that lists nothing known is believed to be able to do everything.
            return Presence::Present(encoders.contains("rawvideo").then(|| Arc::new(encoders)));
        }
        Presence::Present(None)
    }
}
