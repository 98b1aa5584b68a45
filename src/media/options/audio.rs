//! The options of mp3, wav and ogg.

use super::reader::OptionReader;
use super::video::Bitrate;
use crate::error::Failure;

/// An audio encoder of ffmpeg.
pub type AudioCodec = &'static str;

/// How a sound file is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioOptions {
    /// The container.
    pub container: &'static str,
    /// ffmpeg's name of the encoder.
    pub codec: AudioCodec,
    /// Bits per second. Without effect for wav and flac, which lose nothing.
    pub bitrate: Option<Bitrate>,
    /// Samples per second; `None` keeps the source's as near as the codec can.
    pub frequency: Option<i32>,
}

/// What MPEG layer 3 knows.
const MP3_RATES: [i32; 9] = [
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000,
];
/// What Opus knows.
const OPUS_RATES: [i32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

impl AudioOptions {
    pub(super) fn read(
        container: &'static str,
        reader: &mut OptionReader<'_>,
    ) -> Result<Self, Failure> {
        let codecs: &[(&'static str, AudioCodec)] = match container {
            "mp3" => &[("libmp3lame", "libmp3lame"), ("mp3", "libmp3lame")],
            "wav" => &[
                ("pcm_s16le", "pcm_s16le"),
                ("pcm_s24le", "pcm_s24le"),
                ("pcm_s32le", "pcm_s32le"),
                ("pcm_f32le", "pcm_f32le"),
                ("pcm_u8", "pcm_u8"),
            ],
            _ => &[
                ("libvorbis", "libvorbis"),
                ("vorbis", "libvorbis"),
                ("libopus", "libopus"),
                ("opus", "libopus"),
                ("flac", "flac"),
            ],
        };
        let codec = reader
            .choice(&["codec"], codecs)?
            .unwrap_or(match container {
                "mp3" => "libmp3lame",
                "wav" => "pcm_s16le",
                _ => "libvorbis",
            });
        let rates: Option<&[i32]> = match codec {
            "libmp3lame" => Some(&MP3_RATES),
            "libopus" => Some(&OPUS_RATES),
            _ => None,
        };
        let frequency = if let Some(rates) = rates {
            let list = rates
                .iter()
                .map(i32::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let wanted = format!("one of {list} (Hz) with {codec}");
            let known = |value: &serde_json::Value| {
                rates
                    .iter()
                    .copied()
                    .find(|rate| value.as_f64() == Some(f64::from(*rate)))
            };
            reader.custom("frequency", &wanted, known)?
        } else {
            reader.integer(&["frequency"], 8_000, 192_000)?
        };
        Ok(Self {
            container,
            codec,
            bitrate: reader.custom("bitrate", Bitrate::WANTED, Bitrate::read)?,
            frequency,
        })
    }
}
