//! Fake pixels: pictures that show that something was asked for and done.

mod encode;
mod font;

pub use encode::{animated_png, animated_webp, jpeg, png};

use std::sync::Arc;

/// One picture of 8-bit RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Three bytes per pixel, row by row.
    pub rgb: Arc<Vec<u8>>,
    /// One byte per pixel if there is transparency, 255 = opaque.
    pub alpha: Option<Arc<Vec<u8>>>,
}

impl Picture {
    /// One colour, `0xRRGGBB`.
    pub fn filled(width: u32, height: u32, colour: u32) -> Self {
        let [_, r, g, b] = colour.to_be_bytes();
        let rgb = [r, g, b].repeat(width as usize * height as usize);
        Self {
            width,
            height,
            rgb: Arc::new(rgb),
            alpha: None,
        }
    }

    /// A diagonal gradient between two colours that the seed chooses, with lines of text on it.
    pub fn gradient(width: u32, height: u32, seed: u64, text: &str) -> Self {
        let (from, to) = colours(seed);
        let ramp = |a: u8, b: u8, at: u32, of: u32| -> u8 {
            let (a, b) = (u64::from(a), u64::from(b));
            u8::try_from((a * u64::from(of - at) + b * u64::from(at)) / u64::from(of.max(1)))
                .unwrap_or(255)
        };
        // The colour depends on x + y only, so every row is a piece of one long line, shifted by
        // one pixel.
        let span = width + height;
        let line: Vec<u8> = (0..span)
            .flat_map(|at| std::array::from_fn::<u8, 3, _>(|c| ramp(from[c], to[c], at, span)))
            .collect();
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height as usize {
            rgb.extend_from_slice(&line[y * 3..(y + width as usize) * 3]);
        }
        font::draw(&mut rgb, width, height, text);
        Self {
            width,
            height,
            rgb: Arc::new(rgb),
            alpha: None,
        }
    }

    /// Nearest-neighbour scaling.
    pub fn scaled(&self, width: u32, height: u32) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let columns: Vec<usize> = (0..width)
            .map(|x| (u64::from(x) * u64::from(self.width) / u64::from(width.max(1))) as usize)
            .collect();
        let pick = |source: &[u8], bytes: usize| {
            let mut out = Vec::with_capacity(width as usize * height as usize * bytes);
            for y in 0..height {
                let row = (u64::from(y) * u64::from(self.height) / u64::from(height.max(1)))
                    as usize
                    * self.width as usize;
                for x in &columns {
                    out.extend_from_slice(&source[(row + x) * bytes..][..bytes]);
                }
            }
            Arc::new(out)
        };
        Self {
            width,
            height,
            rgb: pick(&self.rgb, 3),
            alpha: self.alpha.as_ref().map(|alpha| pick(alpha, 1)),
        }
    }

    /// Every channel turned around.
    pub fn inverted(&self) -> Self {
        Self {
            rgb: Arc::new(self.rgb.iter().map(|v| 255 - v).collect()),
            ..self.clone()
        }
    }

    /// Reads a picture file's bytes; `None` if it is none.
    pub fn decoded(bytes: &[u8]) -> Option<Self> {
        let image = image::load_from_memory(bytes).ok()?;
        let (width, height) = (image.width(), image.height());
        if image.color().has_alpha() {
            let rgba = image.into_rgba8();
            let rgb = rgba.pixels().flat_map(|p| [p[0], p[1], p[2]]).collect();
            let alpha = rgba.pixels().map(|p| p[3]).collect();
            return Some(Self {
                width,
                height,
                rgb: Arc::new(rgb),
                alpha: Some(Arc::new(alpha)),
            });
        }
        Some(Self {
            width,
            height,
            rgb: Arc::new(image.into_rgb8().into_raw()),
            alpha: None,
        })
    }
}

/// Two colours of a seed, far enough from each other and from white.
fn colours(seed: u64) -> ([u8; 3], [u8; 3]) {
    // SplitMix64, so that neighbouring seeds look different.
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let b = (z ^ (z >> 31)).to_le_bytes();
    (
        [b[0] / 2, b[1] / 2, b[2] / 2 + 32],
        [b[3] / 2 + 80, b[4] / 2 + 80, b[5] / 2 + 64],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_read_back_as_what_was_drawn() {
        let picture = Picture::gradient(96, 64, 7, "Hello 1");
        assert_ne!(picture, Picture::gradient(96, 64, 8, "Hello 1"));
        assert_ne!(picture, Picture::gradient(96, 64, 7, "Hello 2"));
        let file = png(&picture, &[("prompt".to_owned(), "{}".to_owned())]).unwrap();
        assert_eq!(Picture::decoded(&file).unwrap(), picture);
        assert!(file.windows(8).any(|w| w == b"tEXtprom"));
        assert_eq!(
            Picture::decoded(&jpeg(&picture, 95).unwrap())
                .unwrap()
                .width,
            96
        );
        let webp = animated_webp(&[picture.clone(), picture.inverted()], 100).unwrap();
        assert_eq!(Picture::decoded(&webp).unwrap().height, 64);
        let decoder = image::codecs::webp::WebPDecoder::new(std::io::Cursor::new(&webp)).unwrap();
        assert_eq!(image::AnimationDecoder::into_frames(decoder).count(), 2);
    }
}
