//! Audio files: a WAV, and a FLAC that is not compressed.

use std::sync::Arc;

/// One channel of 16-bit samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// The samples.
    pub samples: Arc<Vec<i16>>,
}

impl Sound {
    /// A soft tone (`pitch` in hertz, 0 for silence) of so many seconds.
    pub fn tone(seconds: f64, rate: u32, pitch: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded to ten minutes"
        )]
        let count = (seconds.clamp(0.0, 600.0) * f64::from(rate)) as u32;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within an eighth of full scale"
        )]
        let sample = |n: u32| {
            ((f64::from(n) * pitch * std::f64::consts::TAU / f64::from(rate)).sin() * 4096.0) as i16
        };
        Self {
            rate,
            samples: Arc::new((0..count).map(sample).collect()),
        }
    }

    /// Reads a 16-bit WAV file; `None` if it is none.
    pub fn from_wav(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WAVE" {
            return None;
        }
        let (mut at, mut format) = (12, None);
        while let (Some(name), Some(length)) = (bytes.get(at..at + 4), bytes.get(at + 4..at + 8)) {
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            let data = bytes.get(at + 8..bytes.len().min(at + 8 + length))?;
            if name == b"fmt " {
                let field = |from: usize| {
                    Some(u16::from_le_bytes(
                        data.get(from..from + 2)?.try_into().ok()?,
                    ))
                };
                format = Some((
                    field(2)?,
                    u32::from_le_bytes(data.get(4..8)?.try_into().ok()?),
                    field(14)?,
                ));
            }
            if name == b"data" {
                let (channels, rate, bits) = format?;
                let frame = usize::from(channels.max(1)) * usize::from(bits / 8).max(1);
                let samples = data
                    .chunks_exact(frame)
                    .map(|f| {
                        if bits == 16 {
                            i16::from_le_bytes([f[0], f[1]])
                        } else {
                            0
                        }
                    })
                    .collect();
                return Some(Self {
                    rate,
                    samples: Arc::new(samples),
                });
            }
            at += 8 + length + length % 2;
        }
        None
    }

    /// A WAV file.
    pub fn wav(&self) -> Vec<u8> {
        let bytes = u32::try_from(self.samples.len() * 2).unwrap_or(u32::MAX - 64);
        let mut out = Vec::with_capacity(44 + self.samples.len() * 2);
        out.extend(b"RIFF");
        out.extend((36 + bytes).to_le_bytes());
        out.extend(b"WAVEfmt ");
        out.extend(16u32.to_le_bytes());
        out.extend([1, 0, 1, 0]);
        out.extend(self.rate.to_le_bytes());
        out.extend((self.rate * 2).to_le_bytes());
        out.extend([2, 0, 16, 0]);
        out.extend(b"data");
        out.extend(bytes.to_le_bytes());
        out.extend(self.samples.iter().flat_map(|s| s.to_le_bytes()));
        out
    }

    /// A FLAC file of verbatim frames.
    pub fn flac(&self) -> Vec<u8> {
        const BLOCK: u16 = 4096;
        let mut out = b"fLaC".to_vec();
        // The only metadata block, STREAMINFO: block sizes, unknown frame sizes, rate, one channel,
        // 16 bits, no checksum.
        out.extend([0x80, 0, 0, 34]);
        out.extend(BLOCK.to_be_bytes());
        out.extend(BLOCK.to_be_bytes());
        out.extend([0; 6]);
        let packed = (u64::from(self.rate) << 44) | (15 << 36) | self.samples.len() as u64;
        out.extend(packed.to_be_bytes());
        out.extend([0; 16]);
        for (index, block) in (0u32..).zip(self.samples.chunks(usize::from(BLOCK))) {
            let start = out.len();
            // Fixed block size; its length is given in 16 bits, the rate is STREAMINFO's; one
            // channel of 16 bits.
            out.extend([0xFF, 0xF8, 0x70, 0x08]);
            out.extend(
                char::from_u32(index)
                    .map(|c| c.to_string())
                    .unwrap_or_default()
                    .as_bytes(),
            );
            out.extend((u16::try_from(block.len() - 1).unwrap_or(0)).to_be_bytes());
            out.push(crc8(&out[start..]));
            out.push(0b10);
            out.extend(block.iter().flat_map(|s| s.to_be_bytes()));
            let check = crc16(&out[start..]);
            out.extend(check.to_be_bytes());
        }
        out
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| {
            if crc & 0x80 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x07
            }
        })
    })
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x8005
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_reads_back() {
        let tone = Sound::tone(0.1, 8000, 440.0);
        assert_eq!(tone.samples.len(), 800);
        assert_eq!(Sound::from_wav(&tone.wav()).unwrap(), tone);
        assert_eq!(Sound::from_wav(b"no"), None);
        assert!(tone.flac().starts_with(b"fLaC"));
    }
}
