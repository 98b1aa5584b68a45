//! The options of mp4, webm and gif. Their values become arguments of ffmpeg, so only known words
//! and numbers get through.

use serde_json::Value;

use super::reader::OptionReader;
use crate::error::Failure;

/// A video encoder of ffmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    X264,
    X265,
    Mpeg4,
    Vp8,
    Vp9,
    Aom,
    Svt,
    Gif,
}

impl VideoCodec {
    /// ffmpeg's name of the encoder.
    pub const fn encoder(self) -> &'static str {
        match self {
            Self::X264 => "libx264",
            Self::X265 => "libx265",
            Self::Mpeg4 => "mpeg4",
            Self::Vp8 => "libvpx",
            Self::Vp9 => "libvpx-vp9",
            Self::Aom => "libaom-av1",
            Self::Svt => "libsvtav1",
            Self::Gif => "gif",
        }
    }

    /// The range of `crf`.
    const fn crf_range(self) -> (i32, i32) {
        match self {
            Self::X264 | Self::X265 => (0, 51),
            Self::Vp8 => (4, 63),
            Self::Mpeg4 | Self::Vp9 | Self::Aom | Self::Svt | Self::Gif => (0, 63),
        }
    }
}

/// Speed against size, from `preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// x264's and x265's own word; other encoders get a `cpu-used` of about the same speed.
    Named(&'static str, u8),
    /// libvpx's `deadline`.
    Deadline(&'static str),
    /// A number: `preset` of SVT-AV1, `cpu-used` of libaom.
    Number(u8),
}

/// x264's words from slow to fast, each with the `cpu-used` that libvpx and libaom get for it.
const NAMED: [(&str, u8); 10] = [
    ("ultrafast", 8),
    ("superfast", 7),
    ("veryfast", 6),
    ("faster", 5),
    ("fast", 5),
    ("medium", 4),
    ("slow", 3),
    ("slower", 2),
    ("veryslow", 1),
    ("placebo", 0),
];

/// A bit rate that ffmpeg understands: digits and perhaps `k` or `M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitrate {
    /// As an argument.
    pub text: String,
    /// Bits per second.
    pub bits: u64,
}

impl Bitrate {
    /// What a client is told when it is not one.
    pub(super) const WANTED: &'static str =
        "a bit rate such as \"2M\", \"128k\" or 128000 (from 1k to 1000M)";

    /// Reads `"128k"`, `"2M"`, `"128000"` or `128000`.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_u64()?.to_string(),
            _ => return None,
        };
        let (digits, factor) = match text.as_bytes().last()? {
            b'k' | b'K' => (text.get(..text.len() - 1)?, 1_000),
            b'm' | b'M' => (text.get(..text.len() - 1)?, 1_000_000),
            _ => (text.as_str(), 1),
        };
        if digits.is_empty()
            || digits.len() > 10
            || !digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        let bits = digits.parse::<u64>().ok()?.checked_mul(factor)?;
        (1_000..=1_000_000_000).contains(&bits).then(|| Self {
            text: bits.to_string(),
            bits,
        })
    }
}

/// How a video is made.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// The container.
    pub container: &'static str,
    /// The encoder.
    pub codec: VideoCodec,
    /// Frames per second; `None` keeps a video's own, and means 8 for single images.
    pub fps: Option<f64>,
    /// Constant quality; lower is better. Without effect for gif and mpeg4.
    pub crf: Option<i32>,
    /// Speed against size. Without effect for gif and mpeg4.
    pub speed: Option<Speed>,
    /// Average, or together with `crf` greatest, bits per second. Without effect for gif.
    pub bitrate: Option<Bitrate>,
}

impl VideoOptions {
    /// Frames per second of images without a tempo of their own.
    pub const DEFAULT_FPS: f64 = 8.0;

    pub(super) fn read(
        container: &'static str,
        reader: &mut OptionReader<'_>,
    ) -> Result<Self, Failure> {
        let av1 = [
            ("av1", VideoCodec::Aom),
            ("libaom-av1", VideoCodec::Aom),
            ("libsvtav1", VideoCodec::Svt),
        ];
        let vp9 = [("vp9", VideoCodec::Vp9), ("libvpx-vp9", VideoCodec::Vp9)];
        let mut codecs: Vec<(&'static str, VideoCodec)> = match container {
            "mp4" => vec![
                ("libx264", VideoCodec::X264),
                ("h264", VideoCodec::X264),
                ("libx265", VideoCodec::X265),
                ("h265", VideoCodec::X265),
                ("hevc", VideoCodec::X265),
                ("mpeg4", VideoCodec::Mpeg4),
            ],
            "webm" => vec![("libvpx", VideoCodec::Vp8), ("vp8", VideoCodec::Vp8)],
            _ => vec![("gif", VideoCodec::Gif)],
        };
        if container != "gif" {
            codecs.extend(vp9.into_iter().chain(av1));
        }
        let usual = match container {
            "mp4" => VideoCodec::X264,
            "webm" => VideoCodec::Vp9,
            _ => VideoCodec::Gif,
        };
        let codec = reader.choice(&["codec"], &codecs)?.unwrap_or(usual);
        let (low, high) = codec.crf_range();
        Ok(Self {
            container,
            codec,
            fps: reader.number(&["fps"], 0.1, 240.0)?,
            crf: reader.integer(&["crf"], low, high)?,
            speed: read_speed(codec, reader)?,
            bitrate: reader.custom("bitrate", Bitrate::WANTED, Bitrate::read)?,
        })
    }
}

fn read_speed(codec: VideoCodec, reader: &mut OptionReader<'_>) -> Result<Option<Speed>, Failure> {
    let names = NAMED.map(|(name, _)| name).join(", ");
    let (numbers, deadlines) = match codec {
        VideoCodec::Svt => (Some(13), false),
        VideoCodec::Aom => (Some(8), false),
        VideoCodec::Vp8 | VideoCodec::Vp9 => (None, true),
        VideoCodec::X264 | VideoCodec::X265 | VideoCodec::Mpeg4 | VideoCodec::Gif => (None, false),
    };
    let wanted = match (numbers, deadlines) {
        (Some(most), _) => format!(
            "a whole number from 0 to {most} or one of {names} with {}",
            codec.encoder()
        ),
        (None, true) => format!(
            "one of {names}, realtime, good, best with {}",
            codec.encoder()
        ),
        (None, false) => format!("one of {names} with {}", codec.encoder()),
    };
    reader.custom("preset", &wanted, |value| {
        let number = match value {
            Value::String(word) => {
                if let Some((name, cpu_used)) = NAMED.iter().find(|(name, _)| name == word) {
                    return Some(Speed::Named(name, *cpu_used));
                }
                if let Some(deadline) = ["realtime", "good", "best"]
                    .into_iter()
                    .find(|known| deadlines && known == word)
                {
                    return Some(Speed::Deadline(deadline));
                }
                word.parse::<u64>().ok()?
            }
            other => other.as_u64()?,
        };
        numbers
            .filter(|most| number <= *most)
            .and_then(|_| u8::try_from(number).ok())
            .map(Speed::Number)
    })
}
