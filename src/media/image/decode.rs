//! Files into pixels: 8 bits, sRGB, upright.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;
use std::time::Duration;

use ::image::codecs::gif::GifDecoder;
use ::image::codecs::png::PngDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::metadata::{LoopCount, Orientation};
use ::image::{
    AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageReader, Limits,
    RgbImage,
};

use super::colour;
use super::webp_frames::WebpFrames;
use crate::media::stop::{self, Stoppable};

/// More than this for one picture is refused: 16k x 16k RGBA.
const MAX_BYTES: u64 = 1 << 30;

/// A picture with 8 bits per sample, RGB or RGBA.
pub(in crate::media) struct Picture {
    image: DynamicImage,
}

impl Picture {
    fn new(image: DynamicImage) -> Self {
        let image = match image {
            image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => image,
            image if image.color().has_alpha() => DynamicImage::ImageRgba8(image.into_rgba8()),
            image => DynamicImage::ImageRgb8(image.into_rgb8()),
        };
        Self { image }
    }

    /// In pixels.
    pub(in crate::media) fn size(&self) -> (u32, u32) {
        (self.image.width(), self.image.height())
    }

    /// Whether there is an alpha channel: four bytes per pixel instead of three.
    pub(super) fn has_alpha(&self) -> bool {
        self.image.color().has_alpha()
    }

    /// Whether nothing of it can be seen through.
    pub(in crate::media) fn is_opaque(&self) -> bool {
        match &self.image {
            DynamicImage::ImageRgba8(rgba) => rgba
                .as_chunks::<4>()
                .0
                .iter()
                .all(|[.., alpha]| *alpha == u8::MAX),
            _ => true,
        }
    }

    /// The picture with a longer side of at most so many pixels.
    pub(in crate::media) fn within(self, longest: u32) -> Self {
        let (width, height) = self.size();
        if width.max(height) <= longest {
            return self;
        }
        let image = self
            .image
            .resize(longest, longest, ::image::imageops::FilterType::Triangle);
        Self { image }
    }

    /// The pixels, as they are.
    pub(super) const fn pixels(&self) -> &DynamicImage {
        &self.image
    }

    /// Rows from the top, without padding.
    pub(super) fn bytes(&self) -> &[u8] {
        self.image.as_bytes()
    }

    /// The picture as it looks before a black wall.
    pub(in crate::media) fn flattened_on_black(self) -> RgbImage {
        match self.image {
            DynamicImage::ImageRgba8(rgba) => {
                let (width, height) = rgba.dimensions();
                let mut flat = RgbImage::new(width, height);
                for (to, from) in flat
                    .as_chunks_mut::<3>()
                    .0
                    .iter_mut()
                    .zip(rgba.as_chunks::<4>().0)
                {
                    let [red, green, blue, alpha] = *from;
                    *to = [red, green, blue].map(|sample| shade(sample, alpha));
                }
                flat
            }
            other => other.into_rgb8(),
        }
    }

    /// Four bytes per pixel.
    pub(in crate::media) fn into_rgba(self) -> Vec<u8> {
        self.image.into_rgba8().into_raw()
    }

    /// Fitted into another size, the rest black (or transparent).
    pub(in crate::media) fn fitted(self, (width, height): (u32, u32)) -> Self {
        if self.size() == (width, height) {
            return self;
        }
        let small = self
            .image
            .resize(width, height, ::image::imageops::FilterType::CatmullRom);
        let mut canvas = if self.image.color().has_alpha() {
            DynamicImage::new_rgba8(width, height)
        } else {
            DynamicImage::new_rgb8(width, height)
        };
        let (left, top) = (
            (width - small.width().min(width)) / 2,
            (height - small.height().min(height)) / 2,
        );
        ::image::imageops::replace(&mut canvas, &small, i64::from(left), i64::from(top));
        Self { image: canvas }
    }
}

/// `sample * alpha / 255`, rounded down as libvips does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product of two bytes divided by 255 is a byte"
)]
const fn shade(sample: u8, alpha: u8) -> u8 {
    (sample as u16 * alpha as u16 / 255) as u8
}

/// One frame of an animation.
pub(in crate::media) struct Frame {
    /// What it shows, complete.
    pub(in crate::media) picture: Picture,
    /// How long.
    pub(in crate::media) delay: Duration,
}

pub(super) type Source = BufReader<Stoppable<File>>;

pub(super) fn reader(path: &Path) -> Result<ImageReader<Source>, String> {
    let file = File::open(path).map_err(|e| format!("the file could not be opened ({e})"))?;
    let mut reader = ImageReader::new(BufReader::with_capacity(64 * 1024, Stoppable(file)))
        .with_guessed_format()
        .map_err(|e| format!("the file could not be read ({e})"))?;
    reader.limits(limits());
    Ok(reader)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

/// The still picture, or the first of an animation, in 8 bits.
pub(in crate::media) fn picture(path: &Path) -> Result<Picture, String> {
    picture_at_full_depth(path).map(Picture::new)
}

/// The same with all the bits it has, for PNG.
pub(super) fn picture_at_full_depth(path: &Path) -> Result<DynamicImage, String> {
    let broken = |e: ::image::ImageError| format!("the image could not be decoded ({e})");
    let reader = reader(path)?;
    if reader.format() == Some(ImageFormat::WebP)
        && let Some(mut animation) = frames(path)?
        && let Some(first) = animation.next_frame()?
    {
        return Ok(first.picture.image);
    }
    let mut decoder = reader.into_decoder().map_err(broken)?;
    // The limits above are for the decoder's own memory; a header of a few bytes may still announce
    // any size.
    if decoder.total_bytes() > MAX_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(format!(
            "the image could not be decoded ({width}x{height} pixels are too many)"
        ));
    }
    let profile = decoder.icc_profile().ok().flatten();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    if let Some(profile) = profile {
        image = colour::to_srgb(image, &profile);
    }
    image.apply_orientation(orientation);
    Ok(image)
}

/// The frames of an animation, one at a time.
pub(in crate::media) struct FrameSource {
    frames: Frames<'static>,
    profile: Option<Vec<u8>>,
    orientation: Orientation,
    /// How often it is shown; 0 is for ever.
    pub(in crate::media) loops: u32,
}

impl FrameSource {
    fn new<D: AnimationDecoder<'static>>(
        decoder: D,
        profile: Option<Vec<u8>>,
        orientation: Orientation,
    ) -> Self {
        let loops = times(decoder.loop_count());
        Self {
            frames: decoder.into_frames(),
            profile,
            orientation,
            loops,
        }
    }

    /// The next frame, `None` at the end.
    pub(in crate::media) fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        stop::check()?;
        let Some(frame) = self.frames.next() else {
            return Ok(None);
        };
        let frame = frame.map_err(|e| format!("a frame could not be decoded ({e})"))?;
        let delay = Duration::from(frame.delay());
        let mut image = DynamicImage::ImageRgba8(frame.into_buffer());
        if let Some(profile) = &self.profile {
            image = colour::to_srgb(image, profile);
        }
        image.apply_orientation(self.orientation);
        Ok(Some(Frame {
            picture: Picture::new(image),
            delay,
        }))
    }
}

/// The frames of a file that may be animated: APNG, animated WEBP, any GIF; else `None`.
pub(in crate::media) fn frames(path: &Path) -> Result<Option<FrameSource>, String> {
    let broken = |e: ::image::ImageError| format!("the image could not be decoded ({e})");
    let reader = reader(path)?;
    let format = reader.format();
    let mut input = reader.into_inner();
    input
        .rewind()
        .map_err(|e| format!("the file could not be read ({e})"))?;
    match format {
        Some(ImageFormat::Png) => {
            let mut decoder = PngDecoder::with_limits(input, limits()).map_err(broken)?;
            if !decoder.is_apng().map_err(broken)? {
                return Ok(None);
            }
            let (profile, orientation) = colours(&mut decoder);
            Ok(Some(FrameSource::new(
                decoder.apng().map_err(broken)?,
                profile,
                orientation,
            )))
        }
        Some(ImageFormat::WebP) => {
            let mut decoder = WebPDecoder::new(input).map_err(broken)?;
            if !decoder.has_animation() {
                return Ok(None);
            }
            let (width, height) = decoder.dimensions();
            if u64::from(width) * u64::from(height) * 4 > MAX_BYTES {
                return Err(format!(
                    "the image could not be decoded ({width}x{height} pixels are too many)"
                ));
            }
            let (profile, orientation) = colours(&mut decoder);
            let loops = times(decoder.loop_count());
            let file =
                std::fs::read(path).map_err(|e| format!("the file could not be read ({e})"))?;
            let frames =
                WebpFrames::new(file).ok_or("the image could not be decoded (it is damaged)")?;
            Ok(Some(FrameSource {
                frames: Frames::new(Box::new(frames)),
                profile,
                orientation,
                loops,
            }))
        }
        Some(ImageFormat::Gif) => {
            let mut decoder = GifDecoder::new(input).map_err(broken)?;
            decoder.set_limits(limits()).map_err(broken)?;
            Ok(Some(FrameSource::new(
                decoder,
                None,
                Orientation::NoTransforms,
            )))
        }
        _ => Ok(None),
    }
}

/// How often an animation is shown; 0 is for ever.
fn times(count: LoopCount) -> u32 {
    match count {
        LoopCount::Infinite => 0,
        LoopCount::Finite(times) => times.get(),
    }
}

fn colours(decoder: &mut impl ImageDecoder) -> (Option<Vec<u8>>, Orientation) {
    (
        decoder.icc_profile().ok().flatten(),
        decoder.orientation().unwrap_or(Orientation::NoTransforms),
    )
}

/// How long each frame of an image is shown; a still one has one frame that lasts no time.
pub(in crate::media) fn delays(path: &Path) -> Result<Vec<Duration>, String> {
    let Some(mut source) = frames(path)? else {
        return Ok(vec![Duration::ZERO]);
    };
    let mut delays = Vec::new();
    while let Some(frame) = source.next_frame()? {
        delays.push(frame.delay);
    }
    Ok(delays)
}
