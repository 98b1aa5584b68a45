//! Still and animated images into JPEG, WEBP and PNG. Pure functions over files; the caller chooses
//! the thread.
//!
//! What is done with colour is what sharp does by default: an embedded ICC profile is applied (the
//! pixels become sRGB) and not embedded again. Unlike sharp, EXIF orientation is applied too, so
//! that a picture looks the same after conversion.

mod colour;
mod decode;
mod estimate;
mod jpeg;
mod metadata;
mod png;
mod webp;
mod webp_frames;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(super) use self::decode::{Picture, delays, frames, picture};
pub(super) use self::estimate::header;
pub(super) use self::metadata::{Embedded, read as read_metadata};
use super::options::{JpegOptions, PngOptions, Target, WebpOptions};

/// Converts one image file. What is at `destination` after an error is worthless.
///
/// # Errors
/// A sentence fragment that says what is wrong.
pub(super) fn convert(
    source: &Path,
    destination: &Path,
    target: &Target,
    keep_metadata: bool,
) -> Result<(), String> {
    let embedded = if keep_metadata {
        metadata::read(source)?
    } else {
        Embedded::default()
    };
    let bytes = match target {
        Target::Jpeg(options) => {
            let picture = decode::picture(source)?;
            let rgb = picture.flattened_on_black();
            jpeg::encode(&rgb, options, embedded.exif().as_deref())?
        }
        Target::Webp(options) => webp_bytes(source, options, embedded.exif().as_deref())?,
        Target::Png(options) => {
            let picture = decode::picture_at_full_depth(source)?;
            return png::encode(&picture, options, &embedded, create(destination)?);
        }
        Target::Video(_) | Target::Audio(_) => return Err("this is not an image format".to_owned()),
    };
    let mut file = create(destination)?;
    file.write_all(&bytes)
        .and_then(|()| file.flush())
        .map_err(|e| format!("the result could not be written ({e})"))
}

/// Whether there is more than one frame.
pub(super) fn is_animated(path: &Path) -> bool {
    let mut next = 0;
    let Ok(Some(mut source)) = frames(path) else {
        return false;
    };
    while next < 2 {
        match source.next_frame() {
            Ok(Some(_)) => next += 1,
            _ => return false,
        }
    }
    true
}

/// A picture that nothing can be seen through, as a JPEG.
pub(super) fn jpeg_bytes(picture: &Picture, options: &JpegOptions) -> Result<Vec<u8>, String> {
    jpeg::encode(&picture.pixels().to_rgb8(), options, None)
}

/// A picture as a WEBP of one frame.
pub(super) fn webp_still(picture: &Picture, options: &WebpOptions) -> Result<Vec<u8>, String> {
    webp::encode(picture, options, None)
}

/// A picture as a PNG without texts.
pub(super) fn png_bytes(picture: &Picture) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let options = PngOptions {
        compression_level: 6,
    };
    png::encode(picture.pixels(), &options, &Embedded::default(), &mut bytes)?;
    Ok(bytes)
}

fn create(destination: &Path) -> Result<BufWriter<File>, String> {
    File::create(destination)
        .map(BufWriter::new)
        .map_err(|e| format!("the result could not be created ({e})"))
}

fn webp_bytes(
    source: &Path,
    options: &WebpOptions,
    exif: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let Some(mut animation) = frames(source)? else {
        return webp::encode(&decode::picture(source)?, options, exif);
    };
    let Some(first) = animation.next_frame()? else {
        return Err("the animation has no frames".to_owned());
    };
    let Some(second) = animation.next_frame()? else {
        return webp::encode(&first.picture, options, exif);
    };
    let mut encoder = webp::Animation::new(&first.picture, options, animation.loops)?;
    encoder.add(&first)?;
    encoder.add(&second)?;
    while let Some(frame) = animation.next_frame()? {
        encoder.add(&frame)?;
    }
    encoder.finish(exif)
}
