//! Applies an embedded ICC profile: the pixels become sRGB.

use ::image::{ColorType, DynamicImage, ImageBuffer};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

/// The picture in sRGB. A profile that is broken or of another colour model than the pixels (CMYK
/// pictures are RGB by now) is ignored, as image viewers do.
pub(super) fn to_srgb(image: DynamicImage, icc: &[u8]) -> DynamicImage {
    let Ok(profile) = ColorProfile::new_from_slice(icc) else {
        return image;
    };
    let image = match (image.color(), profile.color_space) {
        // A grey profile describes one channel, and what comes out has three: grey in sRGB's curve
        // needs only one of them.
        (
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16,
            DataColorSpace::Gray,
        ) => image,
        (ColorType::L8 | ColorType::La8, DataColorSpace::Rgb) if image.color().has_alpha() => {
            DynamicImage::ImageRgba8(image.into_rgba8())
        }
        (ColorType::L8, DataColorSpace::Rgb) => DynamicImage::ImageRgb8(image.into_rgb8()),
        (ColorType::L16, DataColorSpace::Rgb) => DynamicImage::ImageRgb16(image.into_rgb16()),
        (ColorType::La16, DataColorSpace::Rgb) => DynamicImage::ImageRgba16(image.into_rgba16()),
        (
            ColorType::Rgb8 | ColorType::Rgba8 | ColorType::Rgb16 | ColorType::Rgba16,
            DataColorSpace::Rgb,
        ) => image,
        _ => return image,
    };
    transformed(&image, &profile).unwrap_or(image)
}

fn transformed(image: &DynamicImage, profile: &ColorProfile) -> Option<DynamicImage> {
    let (width, height) = (image.width(), image.height());
    let options = TransformOptions::default();
    let srgb = ColorProfile::new_srgb();
    match image {
        DynamicImage::ImageRgb8(_)
        | DynamicImage::ImageRgba8(_)
        | DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_) => {
            let (from, to) = layouts(image.color());
            let transform = profile
                .create_transform_8bit(from, &srgb, to, options)
                .ok()?;
            let mut out = vec![0; width as usize * height as usize * to.channels()];
            transform.transform(image.as_bytes(), &mut out).ok()?;
            if to == Layout::Rgba {
                ImageBuffer::from_raw(width, height, out).map(DynamicImage::ImageRgba8)
            } else {
                ImageBuffer::from_raw(width, height, out).map(DynamicImage::ImageRgb8)
            }
        }
        _ => {
            let (from, to) = layouts(image.color());
            let transform = profile
                .create_transform_16bit(from, &srgb, to, options)
                .ok()?;
            let mut out = vec![0_u16; width as usize * height as usize * to.channels()];
            let samples: &[u16] = match image {
                DynamicImage::ImageRgb16(pixels) => pixels.as_raw(),
                DynamicImage::ImageRgba16(pixels) => pixels.as_raw(),
                DynamicImage::ImageLuma16(pixels) => pixels.as_raw(),
                DynamicImage::ImageLumaA16(pixels) => pixels.as_raw(),
                _ => return None,
            };
            transform.transform(samples, &mut out).ok()?;
            if to == Layout::Rgba {
                ImageBuffer::from_raw(width, height, out).map(DynamicImage::ImageRgba16)
            } else {
                ImageBuffer::from_raw(width, height, out).map(DynamicImage::ImageRgb16)
            }
        }
    }
}

const fn layouts(colour: ColorType) -> (Layout, Layout) {
    match colour {
        ColorType::L8 | ColorType::L16 => (Layout::Gray, Layout::Rgb),
        ColorType::La8 | ColorType::La16 => (Layout::GrayAlpha, Layout::Rgba),
        ColorType::Rgba8 | ColorType::Rgba16 => (Layout::Rgba, Layout::Rgba),
        _ => (Layout::Rgb, Layout::Rgb),
    }
}
