//! How large a picture or video is, and how long something lasts: for whoever describes files.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::converter::Media;
use super::image;
use crate::config::withhold_from_tool;

/// What has not said by then what it knows is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pixels of a picture, from its header. Blocks.
pub fn dimensions(path: &Path) -> Option<(u32, u32)> {
    let header = image::header(path).ok()?;
    Some((header.width, header.height))
}

/// Pixels, and seconds.
pub type Measured = (Option<(u32, u32)>, Option<f64>);

impl Media {
    /// Pixels and seconds of a video or sound, as ffmpeg says; `None` when there is no ffmpeg, or
    /// it does not know the file.
    pub async fn probe(&self, path: &Path) -> Option<Measured> {
        if !self.reads_videos().await {
            return None;
        }
        let mut command = Command::new(&self.ffmpeg.command);
        withhold_from_tool(command.as_std_mut());
        // Without an output it ends with an error, after it has said what the input is.
        command
            .args([
                "-nostdin",
                "-hide_banner",
                "-protocol_whitelist",
                "file,pipe",
            ])
            .arg("-i")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .ok()?
            .ok()?;
        Some(read(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn read(said: &str) -> Measured {
    let mut measured = (None, None);
    for line in said.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("Duration: ") {
            measured.1 = seconds(rest.split(',').next().unwrap_or_default());
        } else if measured.0.is_none() && line.starts_with("Stream ") && line.contains(" Video: ") {
            measured.0 = line.split([',', ' ']).find_map(size);
        }
    }
    measured
}

/// `00:01:02.50`
fn seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    for part in text.trim().split(':') {
        total = total * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(total)
}

/// `640x480`
fn size(word: &str) -> Option<(u32, u32)> {
    let (width, height) = word.split_once('x')?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    Some((number(width)?, number(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_says_is_read() {
        let said = "Input #0, mov, from 'x.mp4':\n  Duration: 00:01:02.50, start: 0.0, bitrate: 8 \
                    kb/s\n  Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), \
                    yuv420p(progressive), 640x480 [SAR 1:1], 25 fps\n";
        assert_eq!(read(said), (Some((640, 480)), Some(62.5)));
        assert_eq!(read("  Duration: N/A, bitrate: N/A\n"), (None, None));
    }
}
