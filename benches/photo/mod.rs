//! A picture that compresses like a photograph, the same every time.

use image::{Rgb, RgbImage};

/// Smooth shapes of several sizes, edges, and sensor noise.
pub fn photo(width: u32, height: u32) -> RgbImage {
    let mut seed = 0x1234_5678_u32;
    RgbImage::from_fn(width, height, |x, y| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = f64::from(seed >> 24) / 32.0;
        let (x, y) = (f64::from(x), f64::from(y));
        let edge = if ((x / 150.0).floor() + (y / 110.0).floor()) % 3.0 == 0.0 {
            30.0
        } else {
            0.0
        };
        let detail = ((x * y / 4000.0).sin() + (x / 7.0 + y / 11.0).sin()) * 9.0;
        let wave = |a: f64, b: f64| {
            (((x / a).sin() + (y / b).cos()) * 45.0 + 100.0 + edge + detail + noise)
                .clamp(0.0, 255.0) as u8
        };
        Rgb([wave(131.0, 247.0), wave(253.0, 123.0), wave(97.0, 171.0)])
    })
}
