//! Images into the raw frames that ffmpeg reads: several stills in order, or one animation at its
//! own tempo.
//!
//! The frames are decoded here because ffmpeg builds exist (Debian's among them) that cannot decode
//! an animated WEBP, and because colour, orientation and alpha are then treated as they are
//! everywhere else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::media::image::{self, Picture};
use crate::media::options::{VideoCodec, VideoOptions};

/// The fastest tempo that is chosen for an animation with uneven delays.
const MAX_CHOSEN_FPS: f64 = 60.0;
/// What browsers make of a frame that says it lasts no time.
const UNTIMED: Duration = Duration::from_millis(100);

/// What the frames will be.
#[derive(Debug, Clone)]
pub(in crate::media) struct Plan {
    sources: Vec<PathBuf>,
    /// Pixels of every frame: those of the first.
    pub(in crate::media) size: (u32, u32),
    /// Frames per second.
    pub(in crate::media) fps: f64,
    /// With alpha, for GIF.
    pub(in crate::media) alpha: bool,
    /// How often each frame of the animation is sent; empty for stills.
    repeats: Vec<u64>,
}

/// Looks at the first picture and at the delays of an animation. For a blocking thread.
///
/// # Errors
/// A sentence fragment that says what is wrong with a source.
pub(in crate::media) fn plan(
    sources: Vec<PathBuf>,
    options: &VideoOptions,
) -> Result<Plan, String> {
    let first = sources.first().ok_or("there is no picture")?;
    let size = image::picture(first)?.size();
    let delays = if sources.len() == 1 {
        image::delays(first)?
    } else {
        Vec::new()
    };
    let alpha = options.codec == VideoCodec::Gif;
    if delays.len() < 2 {
        return Ok(Plan {
            sources,
            size,
            fps: options.fps.unwrap_or(VideoOptions::DEFAULT_FPS),
            alpha,
            repeats: Vec::new(),
        });
    }
    let delays: Vec<f64> = delays
        .iter()
        .map(|delay| if delay.is_zero() { UNTIMED } else { *delay }.as_secs_f64())
        .collect();
    let fps = options.fps.unwrap_or_else(|| tempo(&delays));
    Ok(Plan {
        sources,
        size,
        fps,
        alpha,
        repeats: repeats(&delays, fps),
    })
}

/// The tempo that shows an animation with these delays (seconds) best.
fn tempo(delays: &[f64]) -> f64 {
    let shortest = delays.iter().copied().fold(f64::INFINITY, f64::min);
    let longest = delays.iter().copied().fold(0.0, f64::max);
    if longest - shortest < 0.002 {
        #[expect(clippy::cast_precision_loss, reason = "a number of frames")]
        let count = delays.len() as f64;
        return (count / delays.iter().sum::<f64>()).clamp(0.1, 240.0);
    }
    (1.0 / shortest).clamp(1.0, MAX_CHOSEN_FPS)
}

/// How many frames of a constant tempo fall into each delay; together as many as the animation
/// lasts.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and not negative"
)]
fn repeats(delays: &[f64], fps: f64) -> Vec<u64> {
    let mut elapsed = 0.0;
    let mut sent = 0;
    let mut repeats: Vec<u64> = delays
        .iter()
        .map(|delay| {
            elapsed += delay;
            let due = (elapsed * fps).round() as u64;
            let count = due.saturating_sub(sent);
            sent += count;
            count
        })
        .collect();
    if let (0, Some(first)) = (sent, repeats.first_mut()) {
        *first = 1;
    }
    repeats
}

/// Sends the frames; ends early when nobody receives any more. For a blocking thread.
pub(in crate::media) fn feed(plan: &Plan, to: &mpsc::Sender<Result<Bytes, String>>) {
    let result = if plan.repeats.is_empty() {
        stills(plan, to)
    } else {
        animation(plan, to)
    };
    if let Err(reason) = result {
        let _ = to.blocking_send(Err(reason));
    }
}

fn stills(plan: &Plan, to: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), String> {
    for source in &plan.sources {
        let frame = raw(
            image::picture(source).map_err(|reason| format!("{}: {reason}", name(source)))?,
            plan,
        );
        if to.blocking_send(Ok(frame)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn animation(plan: &Plan, to: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), String> {
    let Some(source) = plan.sources.first() else {
        return Ok(());
    };
    let Some(mut frames) = image::frames(source)? else {
        return stills(plan, to);
    };
    for count in &plan.repeats {
        let Some(frame) = frames.next_frame()? else {
            return Ok(());
        };
        if *count == 0 {
            continue;
        }
        let bytes = raw(frame.picture, plan);
        for _ in 0..*count {
            if to.blocking_send(Ok(bytes.clone())).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn raw(picture: Picture, plan: &Plan) -> Bytes {
    let picture = picture.fitted(plan.size);
    Bytes::from(if plan.alpha {
        picture.into_rgba()
    } else {
        picture.flattened_on_black().into_raw()
    })
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::{repeats, tempo};

    #[test]
    fn an_even_animation_keeps_its_tempo() {
        let delays = [0.08; 5];
        assert!((tempo(&delays) - 12.5).abs() < 1e-9);
        assert_eq!(repeats(&delays, 12.5), [1; 5]);
    }

    #[test]
    fn an_uneven_animation_keeps_its_length() {
        let delays = [0.1, 0.3, 0.05];
        let counts = repeats(&delays, tempo(&delays));
        assert_eq!(counts, [2, 6, 1]);
        assert_eq!(repeats(&[0.01, 0.01], 8.0), [1, 0]);
    }
}
