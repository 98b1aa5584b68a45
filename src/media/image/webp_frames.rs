//! The frames of an animated WEBP through libwebp, which composes them exactly: the `image` crate's
//! blending turns an opaque 255 into 254.
#![expect(unsafe_code, reason = "libwebp is a C library")]

use std::ptr;

use ::image::{Delay, Frame, ImageResult, RgbaImage};
use libwebp_sys::{
    WEBP_CSP_MODE, WebPAnimDecoder, WebPAnimDecoderDelete, WebPAnimDecoderGetInfo,
    WebPAnimDecoderGetNext, WebPAnimDecoderHasMoreFrames, WebPAnimDecoderNew,
    WebPAnimDecoderOptions, WebPAnimDecoderOptionsInit, WebPAnimInfo, WebPData,
};

/// Complete frames, one after another.
pub(super) struct WebpFrames {
    decoder: *mut WebPAnimDecoder,
    /// What the decoder reads from; it keeps a pointer into it.
    _file: Vec<u8>,
    size: (u32, u32),
    elapsed_ms: i32,
    failed: bool,
}

impl WebpFrames {
    /// Begins with a whole file; `None` when it is damaged.
    pub(super) fn new(file: Vec<u8>) -> Option<Self> {
        let data = WebPData {
            bytes: file.as_ptr(),
            size: file.len(),
        };
        let mut options = std::mem::MaybeUninit::<WebPAnimDecoderOptions>::zeroed();
        // SAFETY: zero is valid for the options (RGB, no threads), and libwebp fills them in. The
        // decoder keeps the pointer to the file, whose heap memory stays in place while the vector
        // is moved into the structure that also deletes the decoder.
        let decoder = unsafe {
            if WebPAnimDecoderOptionsInit(options.as_mut_ptr()) == 0 {
                return None;
            }
            let mut options = options.assume_init();
            options.color_mode = WEBP_CSP_MODE::MODE_RGBA;
            WebPAnimDecoderNew(&data, &options)
        };
        if decoder.is_null() {
            return None;
        }
        let mut frames = Self {
            decoder,
            _file: file,
            size: (0, 0),
            elapsed_ms: 0,
            failed: false,
        };
        let mut info = WebPAnimInfo::default();
        // SAFETY: a live decoder.
        if unsafe { WebPAnimDecoderGetInfo(frames.decoder, &mut info) } == 0 {
            return None;
        }
        frames.size = (info.canvas_width, info.canvas_height);
        Some(frames)
    }

    /// The canvas with the next frame on it and the time when that ends.
    fn next_canvas(&mut self) -> Option<(RgbaImage, i32)> {
        let (mut canvas, mut end) = (ptr::null_mut::<u8>(), 0);
        // SAFETY: a live decoder; the canvas belongs to it and stays as it is until the next call.
        let bytes = unsafe {
            if WebPAnimDecoderGetNext(self.decoder, &mut canvas, &mut end) == 0 || canvas.is_null()
            {
                return None;
            }
            std::slice::from_raw_parts(canvas, self.size.0 as usize * self.size.1 as usize * 4)
                .to_vec()
        };
        RgbaImage::from_raw(self.size.0, self.size.1, bytes).map(|image| (image, end))
    }
}

impl Iterator for WebpFrames {
    type Item = ImageResult<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: a live decoder.
        if self.failed || unsafe { WebPAnimDecoderHasMoreFrames(self.decoder) } == 0 {
            return None;
        }
        let Some((image, end)) = self.next_canvas() else {
            self.failed = true;
            return Some(Err(::image::ImageError::IoError(std::io::Error::other(
                "a frame of the WEBP is damaged",
            ))));
        };
        let delay = u32::try_from(end.saturating_sub(self.elapsed_ms)).unwrap_or(0);
        self.elapsed_ms = end;
        Some(Ok(Frame::from_parts(
            image,
            0,
            0,
            Delay::from_numer_denom_ms(delay, 1),
        )))
    }
}

impl Drop for WebpFrames {
    fn drop(&mut self) {
        // SAFETY: created in `new`, deleted only here.
        unsafe { WebPAnimDecoderDelete(self.decoder) };
    }
}
