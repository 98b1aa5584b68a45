//! PNG, with the depth the source has.

use std::borrow::Cow;
use std::io::Write;

use ::image::DynamicImage;
use ::png::{BitDepth, ColorType, Compression, DeflateCompression, Encoder, Filter};

use super::metadata::Embedded;
use crate::media::options::PngOptions;

/// Writes a picture with ComfyUI's own text chunks.
///
/// # Errors
/// A sentence fragment that says what is wrong.
pub(super) fn encode(
    image: &DynamicImage,
    options: &PngOptions,
    embedded: &Embedded,
    mut file: impl Write,
) -> Result<(), String> {
    let broken = |e: ::png::EncodingError| format!("the PNG could not be written ({e})");
    let (image, colour, depth) = supported(image);
    let mut encoder = Encoder::new(&mut file, image.width(), image.height());
    encoder.set_color(colour);
    encoder.set_depth(depth);
    match options.compression_level {
        0 => encoder.set_deflate_compression(DeflateCompression::NoCompression),
        6 => encoder.set_compression(Compression::Balanced),
        level => {
            encoder.set_deflate_compression(DeflateCompression::Level(level));
            encoder.set_filter(Filter::Adaptive);
        }
    }
    for (key, text) in embedded.entries() {
        encoder
            .add_text_chunk(key.clone(), text.clone())
            .map_err(broken)?;
    }
    let samples = match depth {
        BitDepth::Sixteen => Cow::Owned(big_endian(image.as_bytes())),
        _ => Cow::Borrowed(image.as_bytes()),
    };
    let mut writer = encoder.write_header().map_err(broken)?;
    writer.write_image_data(&samples).map_err(broken)?;
    writer.finish().map_err(broken)?;
    file.flush()
        .map_err(|e| format!("the PNG could not be written ({e})"))
}

/// The picture in something that PNG knows; floating point numbers become 16 bits.
fn supported(image: &DynamicImage) -> (Cow<'_, DynamicImage>, ColorType, BitDepth) {
    match image {
        DynamicImage::ImageLuma8(_) => {
            (Cow::Borrowed(image), ColorType::Grayscale, BitDepth::Eight)
        }
        DynamicImage::ImageLumaA8(_) => (
            Cow::Borrowed(image),
            ColorType::GrayscaleAlpha,
            BitDepth::Eight,
        ),
        DynamicImage::ImageRgb8(_) => (Cow::Borrowed(image), ColorType::Rgb, BitDepth::Eight),
        DynamicImage::ImageRgba8(_) => (Cow::Borrowed(image), ColorType::Rgba, BitDepth::Eight),
        DynamicImage::ImageLuma16(_) => (
            Cow::Borrowed(image),
            ColorType::Grayscale,
            BitDepth::Sixteen,
        ),
        DynamicImage::ImageLumaA16(_) => (
            Cow::Borrowed(image),
            ColorType::GrayscaleAlpha,
            BitDepth::Sixteen,
        ),
        DynamicImage::ImageRgb16(_) => (Cow::Borrowed(image), ColorType::Rgb, BitDepth::Sixteen),
        DynamicImage::ImageRgba16(_) => (Cow::Borrowed(image), ColorType::Rgba, BitDepth::Sixteen),
        other if other.color().has_alpha() => (
            Cow::Owned(DynamicImage::ImageRgba16(other.to_rgba16())),
            ColorType::Rgba,
            BitDepth::Sixteen,
        ),
        other => (
            Cow::Owned(DynamicImage::ImageRgb16(other.to_rgb16())),
            ColorType::Rgb,
            BitDepth::Sixteen,
        ),
    }
}

fn big_endian(native: &[u8]) -> Vec<u8> {
    native
        .as_chunks::<2>()
        .0
        .iter()
        .flat_map(|pair| u16::from_ne_bytes(*pair).to_be_bytes())
        .collect()
}
