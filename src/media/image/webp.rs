//! WEBP through libwebp, set up as libvips does it for sharp.
#![expect(
    unsafe_code,
    reason = "libwebp is a C library; this is the only place that calls it"
)]

use std::mem::MaybeUninit;
use std::ptr;

use libwebp_sys::{
    WEBP_MUX_ABI_VERSION, WebPAnimEncoder, WebPAnimEncoderAdd, WebPAnimEncoderAssemble,
    WebPAnimEncoderDelete, WebPAnimEncoderNewInternal, WebPAnimEncoderOptions,
    WebPAnimEncoderOptionsInitInternal, WebPConfig, WebPData, WebPEncode, WebPFree,
    WebPMemoryWrite, WebPMemoryWriter, WebPMemoryWriterClear, WebPMemoryWriterInit,
    WebPMuxAssemble, WebPMuxCreateInternal, WebPMuxDelete, WebPMuxError, WebPMuxSetChunk,
    WebPPicture, WebPPictureFree, WebPPictureImportRGB, WebPPictureImportRGBA, WebPPreset,
    WebPValidateConfig,
};

use super::decode::{Frame, Picture};
use crate::media::options::{WebpOptions, WebpPreset};
use crate::media::stop;

/// What the format allows.
const MAX_SIDE: u32 = 16_383;
const MUX_ABI: i32 = WEBP_MUX_ABI_VERSION as i32;

/// Encodes a still picture; `exif` is a TIFF structure.
///
/// # Errors
/// A sentence fragment that says what is wrong.
pub(super) fn encode(
    picture: &Picture,
    options: &WebpOptions,
    exif: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let config = configure(options)?;
    let mut canvas = Canvas::import(picture, options)?;
    let mut sink = Sink::new();
    canvas.0.writer = Some(WebPMemoryWrite);
    canvas.0.custom_ptr = ptr::from_mut(&mut *sink.0).cast();
    // SAFETY: configuration and picture were initialised by libwebp; the writer lives in a box
    // until after the call.
    if unsafe { WebPEncode(&config, &mut *canvas.0) } == 0 {
        stop::check()?;
        return Err(format!(
            "the WEBP encoder failed ({:?})",
            canvas.0.error_code
        ));
    }
    let bytes = sink.bytes().to_vec();
    match exif {
        None => Ok(bytes),
        Some(exif) => with_exif(&bytes, exif),
    }
}

fn configure(options: &WebpOptions) -> Result<WebPConfig, String> {
    let preset = match options.preset {
        WebpPreset::Default => WebPPreset::WEBP_PRESET_DEFAULT,
        WebpPreset::Picture => WebPPreset::WEBP_PRESET_PICTURE,
        WebpPreset::Photo => WebPPreset::WEBP_PRESET_PHOTO,
        WebpPreset::Drawing => WebPPreset::WEBP_PRESET_DRAWING,
        WebpPreset::Icon => WebPPreset::WEBP_PRESET_ICON,
        WebpPreset::Text => WebPPreset::WEBP_PRESET_TEXT,
    };
    #[expect(clippy::cast_precision_loss, reason = "1 to 100")]
    let quality = options.quality as f32;
    let refused = || "the WEBP encoder refused the options".to_owned();
    let mut config = WebPConfig::new_with_preset(preset, quality).map_err(|()| refused())?;
    config.lossless = i32::from(options.lossless || options.near_lossless);
    config.alpha_quality = options.alpha_quality;
    config.method = options.effort;
    if options.near_lossless {
        config.near_lossless = options.quality;
    }
    config.use_sharp_yuv = i32::from(options.smart_subsample);
    // SAFETY: a complete configuration.
    if unsafe { WebPValidateConfig(&config) } == 0 {
        Err(refused())
    } else {
        Ok(config)
    }
}

/// Asked by the encoder now and then; 0 ends it.
unsafe extern "C" fn go_on(_: std::ffi::c_int, _: *const WebPPicture) -> std::ffi::c_int {
    i32::from(stop::check().is_ok())
}

/// libwebp's picture.
struct Canvas(Box<WebPPicture>);

impl Canvas {
    fn import(picture: &Picture, options: &WebpOptions) -> Result<Self, String> {
        let (width, height) = picture.size();
        if width == 0 || height == 0 || width.max(height) > MAX_SIDE {
            return Err(format!("a WEBP has at most {MAX_SIDE} pixels on a side"));
        }
        let channels: u32 = if picture.has_alpha() { 4 } else { 3 };
        let int =
            |number: u32| i32::try_from(number).map_err(|_| "the picture is too large".to_owned());
        let mut canvas = Self(Box::new(
            WebPPicture::new().map_err(|()| "libwebp is of another version".to_owned())?,
        ));
        canvas.0.width = int(width)?;
        canvas.0.height = int(height)?;
        canvas.0.progress_hook = Some(go_on);
        // Smart subsampling happens inside the encoder, which then needs the original colours.
        canvas.0.use_argb =
            i32::from(options.lossless || options.near_lossless || options.smart_subsample);
        let stride = int(width * channels)?;
        let import = if picture.has_alpha() {
            WebPPictureImportRGBA
        } else {
            WebPPictureImportRGB
        };
        // SAFETY: `bytes` holds height rows of `stride` bytes, which libwebp copies.
        if unsafe { import(&mut *canvas.0, picture.bytes().as_ptr(), stride) } == 0 {
            return Err("there is not enough memory for the picture".to_owned());
        }
        Ok(canvas)
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        // SAFETY: initialised by libwebp; it frees what it allocated itself.
        unsafe { WebPPictureFree(&mut *self.0) };
    }
}

/// Where libwebp writes to.
struct Sink(Box<WebPMemoryWriter>);

impl Sink {
    fn new() -> Self {
        let mut writer = Box::new(MaybeUninit::<WebPMemoryWriter>::zeroed());
        // SAFETY: all zero is a valid writer (null, nothing, nothing), which Init sets as well.
        Self(unsafe {
            WebPMemoryWriterInit(writer.as_mut_ptr());
            writer.assume_init()
        })
    }

    fn bytes(&self) -> &[u8] {
        if self.0.mem.is_null() {
            return &[];
        }
        // SAFETY: libwebp has written `size` bytes to `mem`.
        unsafe { std::slice::from_raw_parts(self.0.mem, self.0.size) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`.
        unsafe { WebPMemoryWriterClear(&mut *self.0) };
    }
}

/// Bytes that libwebp has allocated.
struct Assembled(WebPData);

impl Assembled {
    fn to_vec(&self) -> Vec<u8> {
        if self.0.bytes.is_null() {
            return Vec::new();
        }
        // SAFETY: libwebp says that there are so many bytes.
        unsafe { std::slice::from_raw_parts(self.0.bytes, self.0.size) }.to_vec()
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        // SAFETY: null or allocated by libwebp.
        unsafe { WebPFree(self.0.bytes.cast_mut().cast()) };
    }
}

/// Adds an EXIF chunk to a complete file.
fn with_exif(file: &[u8], exif: &[u8]) -> Result<Vec<u8>, String> {
    let image = WebPData {
        bytes: file.as_ptr(),
        size: file.len(),
    };
    let chunk = WebPData {
        bytes: exif.as_ptr(),
        size: exif.len(),
    };
    let mut out = Assembled(WebPData::default());
    // SAFETY: both buffers outlive the mux, which is deleted before the end of the block and copies
    // nothing.
    let done = unsafe {
        let mux = WebPMuxCreateInternal(&image, 0, MUX_ABI);
        if mux.is_null() {
            return Err("the metadata could not be added".to_owned());
        }
        let set = WebPMuxSetChunk(mux, c"EXIF".as_ptr(), &chunk, 0);
        let assembled = if set == WebPMuxError::WEBP_MUX_OK {
            WebPMuxAssemble(mux, &mut out.0)
        } else {
            set
        };
        WebPMuxDelete(mux);
        assembled
    };
    if done == WebPMuxError::WEBP_MUX_OK {
        Ok(out.to_vec())
    } else {
        Err(format!("the metadata could not be added ({done:?})"))
    }
}

/// An animated WEBP in the making; frames come one at a time.
pub(super) struct Animation<'a> {
    encoder: *mut WebPAnimEncoder,
    config: WebPConfig,
    options: &'a WebpOptions,
    size: (u32, u32),
    elapsed_ms: i32,
}

impl<'a> Animation<'a> {
    /// Begins an animation of the first frame's size; `loops` 0 is for ever.
    pub(super) fn new(
        first: &Picture,
        options: &'a WebpOptions,
        loops: u32,
    ) -> Result<Self, String> {
        let config = configure(options)?;
        let size = first.size();
        if size.0.max(size.1) > MAX_SIDE {
            return Err(format!("a WEBP has at most {MAX_SIDE} pixels on a side"));
        }
        let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let mut settings = MaybeUninit::<WebPAnimEncoderOptions>::zeroed();
        // SAFETY: zero is valid for plain numbers, and libwebp fills them in; the encoder copies
        // the options.
        let encoder = unsafe {
            if WebPAnimEncoderOptionsInitInternal(settings.as_mut_ptr(), MUX_ABI) == 0 {
                return Err("libwebp is of another version".to_owned());
            }
            let mut settings = settings.assume_init();
            // The format has 16 bits for it.
            settings.anim_params.loop_count = int(loops.min(0xFFFF));
            WebPAnimEncoderNewInternal(int(size.0), int(size.1), &settings, MUX_ABI)
        };
        if encoder.is_null() {
            return Err("there is not enough memory for the animation".to_owned());
        }
        Ok(Self {
            encoder,
            config,
            options,
            size,
            elapsed_ms: 0,
        })
    }

    /// Adds a frame that is shown after the ones before.
    pub(super) fn add(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.picture.size() != self.size {
            return Err("the frames are of different sizes".to_owned());
        }
        let mut canvas = Canvas::import(&frame.picture, self.options)?;
        // SAFETY: a live encoder and a picture of its size.
        if unsafe {
            WebPAnimEncoderAdd(self.encoder, &mut *canvas.0, self.elapsed_ms, &self.config)
        } == 0
        {
            stop::check()?;
            return Err("the WEBP encoder failed on a frame".to_owned());
        }
        let delay = i32::try_from(frame.delay.as_millis()).unwrap_or(i32::MAX);
        self.elapsed_ms = self.elapsed_ms.saturating_add(delay);
        Ok(())
    }

    /// The complete file.
    pub(super) fn finish(self, exif: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let mut out = Assembled(WebPData::default());
        // SAFETY: a null picture ends the last frame; then the encoder may be assembled once.
        let done = unsafe {
            WebPAnimEncoderAdd(self.encoder, ptr::null_mut(), self.elapsed_ms, ptr::null()) != 0
                && WebPAnimEncoderAssemble(self.encoder, &mut out.0) != 0
        };
        if !done {
            return Err("the animation could not be assembled".to_owned());
        }
        match exif {
            None => Ok(out.to_vec()),
            Some(exif) => with_exif(&out.to_vec(), exif),
        }
    }
}

impl Drop for Animation<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `new`, deleted only here.
        unsafe { WebPAnimEncoderDelete(self.encoder) };
    }
}
