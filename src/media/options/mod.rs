//! The reading of `convert_output`: what a client may ask for, checked once, before anything runs.
//! What means nothing for the format is ignored, because clients send it to the Node server too.
//!
//! Names, ranges and defaults of JPEG and WebP are those of sharp, because clients were written
//! against it.

mod audio;
mod image;
mod reader;
mod video;

use serde_json::Value;

pub use self::audio::AudioOptions;
pub use self::image::{JpegOptions, PngOptions, Subsampling, WebpOptions, WebpPreset};
use self::reader::OptionReader;
pub use self::video::{Speed, VideoCodec, VideoOptions};
use crate::error::Failure;

/// What every source is turned into.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A JPEG.
    Jpeg(JpegOptions),
    /// A WEBP, animated when the source is.
    Webp(WebpOptions),
    /// A PNG.
    Png(PngOptions),
    /// A video or an animated GIF, made by ffmpeg.
    Video(VideoOptions),
    /// A sound file, made by ffmpeg.
    Audio(AudioOptions),
}

/// A checked `convert_output`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// The format as the client wrote it; it becomes the extension.
    pub(super) format: String,
    /// What to make.
    pub(super) target: Target,
    /// Whether ComfyUI's embedded workflow goes into the new file.
    pub(super) keep_metadata: bool,
    /// What was read otherwise than written.
    warnings: Vec<String>,
}

/// Every format, in the order in which an error lists them.
const FORMATS: [&str; 10] = [
    "jpeg", "jpg", "webp", "png", "mp4", "webm", "gif", "mp3", "wav", "ogg",
];

impl Conversion {
    /// Checks format and options.
    ///
    /// Besides the options of its format each takes `keep_metadata` (false).
    ///
    /// # Errors
    /// A 400 whose location is `convert_output.format` or `convert_output.options.<name>`.
    pub fn parse(format: &str, options: Option<&Value>) -> Result<Self, Failure> {
        let Some(known) = FORMATS.iter().find(|known| **known == format) else {
            let shown: String = format.chars().take(40).collect();
            return Err(Failure::invalid(
                "convert_output.format",
                format!(
                    "convert_output.format \"{shown}\" is not known; it must be one of {}.",
                    FORMATS.join(", ")
                ),
            ));
        };
        let mut reader = OptionReader::new(known, options)?;
        let keep_metadata = reader.boolean(&["keep_metadata"])?.unwrap_or(false);
        let target = match *known {
            "webp" => Target::Webp(WebpOptions::read(&mut reader)?),
            "png" => Target::Png(PngOptions::read(&mut reader)?),
            "mp4" | "webm" | "gif" => Target::Video(VideoOptions::read(known, &mut reader)?),
            "mp3" | "wav" | "ogg" => Target::Audio(AudioOptions::read(known, &mut reader)?),
            _ => Target::Jpeg(JpegOptions::read(&mut reader)?),
        };
        Ok(Self {
            format: (*known).to_owned(),
            target,
            keep_metadata,
            warnings: reader.finish(),
        })
    }

    /// What was read otherwise than written: ignored options, moved numbers.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether ffmpeg is needed.
    pub(super) const fn needs_ffmpeg(&self) -> bool {
        matches!(self.target, Target::Video(_) | Target::Audio(_))
    }
}
