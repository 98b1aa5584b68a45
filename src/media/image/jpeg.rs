//! JPEG through mozjpeg, set up so that the bytes equal those of sharp (libvips) with the same
//! options.
#![expect(
    unsafe_code,
    reason = "mozjpeg is a C library; this is the only place that calls it"
)]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use ::image::RgbImage;
use mozjpeg_sys::{
    J_BOOLEAN_PARAM, J_COLOR_SPACE, J_INT_PARAM, JINT_COMPRESS_PROFILE_VALUE, JPEG_LIB_VERSION,
    boolean, jpeg_CreateCompress, jpeg_c_set_bool_param, jpeg_c_set_int_param, jpeg_common_struct,
    jpeg_compress_struct, jpeg_destroy_compress, jpeg_error_mgr, jpeg_finish_compress,
    jpeg_mem_dest, jpeg_progress_mgr, jpeg_set_defaults, jpeg_set_quality, jpeg_simple_progression,
    jpeg_start_compress, jpeg_std_error, jpeg_write_marker, jpeg_write_scanlines,
};

use crate::media::options::{JpegOptions, Subsampling};
use crate::media::stop;

/// What libjpeg itself allows.
const MAX_SIDE: u32 = 65_500;
/// What fits into an APP1 segment after its length and `Exif\0\0`.
const EXIF_PART: usize = 65_533 - EXIF_HEADER.len();
const EXIF_HEADER: &[u8] = b"Exif\0\0";

/// Encodes a picture; `exif` is a TIFF structure, spread over several segments when it is long.
///
/// # Errors
/// A sentence fragment that says what is wrong.
pub(super) fn encode(
    image: &RgbImage,
    options: &JpegOptions,
    exif: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    if image.width() == 0 || image.height() == 0 || image.width().max(image.height()) > MAX_SIDE {
        return Err(format!("a JPEG has at most {MAX_SIDE} pixels on a side"));
    }
    // libjpeg leaves a failing call by unwinding (see `fail`), which ends here.
    catch_unwind(AssertUnwindSafe(|| run(image, options, exif))).map_err(|payload| {
        match payload.downcast::<EncoderError>() {
            Ok(error) => error.0,
            Err(other) => resume_unwind(other),
        }
    })
}

/// Why the encoder ended, carried through C by unwinding.
struct EncoderError(String);

/// libjpeg wants this never to return.
extern "C-unwind" fn fail(cinfo: &mut jpeg_common_struct) {
    // SAFETY: `err` points to the manager in `Compressor`, which outlives every call into libjpeg.
    let code = unsafe { cinfo.err.as_ref() }.map_or(0, |manager| manager.msg_code);
    resume_unwind(Box::new(EncoderError(format!(
        "the JPEG encoder failed (code {code})"
    ))));
}

/// Asked between rows, in each pass.
extern "C-unwind" fn go_on(_: &mut jpeg_common_struct) {
    if let Err(reason) = stop::check() {
        resume_unwind(Box::new(EncoderError(reason)));
    }
}

/// Warnings are not for stderr.
extern "C-unwind" fn silence(_: &mut jpeg_common_struct) {}

/// libjpeg's state. It contains pointers into itself, so it stays in its box.
struct Compressor {
    cinfo: jpeg_compress_struct,
    errors: jpeg_error_mgr,
    progress: jpeg_progress_mgr,
    output: *mut u8,
    size: std::ffi::c_ulong,
}

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: `cinfo` is zeroed or created, both of which libjpeg accepts here; `output` is
        // null or from libjpeg's malloc.
        unsafe {
            jpeg_destroy_compress(&mut self.cinfo);
            nix::libc::free(self.output.cast());
        }
    }
}

fn run(image: &RgbImage, options: &JpegOptions, exif: Option<&[u8]>) -> Vec<u8> {
    // SAFETY: the structures are plain C data for which zero is the documented state before
    // creation.
    let mut state = Box::new(Compressor {
        cinfo: unsafe { mem::zeroed() },
        errors: unsafe { mem::zeroed() },
        progress: unsafe { mem::zeroed() },
        output: ptr::null_mut(),
        size: 0,
    });
    let compressor = &mut *state;
    // SAFETY: the calls follow libjpeg's order (create, destination, parameters, start, write,
    // finish) on one live structure, and the pointers given stay valid until `state` is dropped.
    unsafe {
        jpeg_std_error(&mut compressor.errors);
        compressor.errors.error_exit = Some(fail);
        compressor.errors.output_message = Some(silence);
        compressor.cinfo.common.err = &mut compressor.errors;
        jpeg_CreateCompress(
            &mut compressor.cinfo,
            JPEG_LIB_VERSION,
            size_of::<jpeg_compress_struct>(),
        );
        compressor.progress.progress_monitor = Some(go_on);
        compressor.cinfo.common.progress = &mut compressor.progress;
        jpeg_mem_dest(
            &mut compressor.cinfo,
            &mut compressor.output,
            &mut compressor.size,
        );
        configure(&mut compressor.cinfo, image, options);
        jpeg_start_compress(&mut compressor.cinfo, 1);
        for part in exif.unwrap_or_default().chunks(EXIF_PART) {
            let segment = [EXIF_HEADER, part].concat();
            jpeg_write_marker(
                &mut compressor.cinfo,
                0xE1,
                segment.as_ptr(),
                u32::try_from(segment.len()).unwrap_or(0),
            );
        }
        write_rows(&mut compressor.cinfo, image);
        jpeg_finish_compress(&mut compressor.cinfo);
        std::slice::from_raw_parts(
            compressor.output,
            usize::try_from(compressor.size).unwrap_or(0),
        )
        .to_vec()
    }
}

/// The order matters and is libvips's: the profile before the defaults, the table before the
/// quality, the scans at last.
///
/// # Safety
/// `cinfo` must have been created.
unsafe fn configure(cinfo: &mut jpeg_compress_struct, image: &RgbImage, options: &JpegOptions) {
    cinfo.image_width = image.width();
    cinfo.image_height = image.height();
    cinfo.input_components = 3;
    cinfo.in_color_space = J_COLOR_SPACE::JCS_RGB;
    // SAFETY: the caller's promise.
    unsafe {
        jpeg_c_set_int_param(
            cinfo,
            J_INT_PARAM::JINT_COMPRESS_PROFILE,
            JINT_COMPRESS_PROFILE_VALUE::JCP_FASTEST as i32,
        );
        jpeg_set_defaults(cinfo);
        cinfo.optimize_coding = boolean::from(options.optimise_coding);
        if options.trellis_quantisation {
            jpeg_c_set_bool_param(cinfo, J_BOOLEAN_PARAM::JBOOLEAN_TRELLIS_QUANT, 1);
            cinfo.optimize_coding = 1;
        }
        if options.overshoot_deringing {
            jpeg_c_set_bool_param(cinfo, J_BOOLEAN_PARAM::JBOOLEAN_OVERSHOOT_DERINGING, 1);
        }
        if options.optimise_scans && options.progressive {
            jpeg_c_set_bool_param(cinfo, J_BOOLEAN_PARAM::JBOOLEAN_OPTIMIZE_SCANS, 1);
        }
        if options.quantisation_table > 0 {
            jpeg_c_set_int_param(
                cinfo,
                J_INT_PARAM::JINT_BASE_QUANT_TBL_IDX,
                options.quantisation_table,
            );
        }
        jpeg_set_quality(cinfo, options.quality, 1);
        if options.progressive {
            jpeg_simple_progression(cinfo);
        }
        let sampling = match options.subsampling {
            Subsampling::Half => 2,
            Subsampling::Full => 1,
        };
        if let Some(luma) = cinfo.comp_info.as_mut() {
            luma.h_samp_factor = sampling;
            luma.v_samp_factor = sampling;
        }
        // Without metadata sharp writes neither; the colour model follows from the three
        // components.
        cinfo.write_JFIF_header = 0;
        cinfo.write_Adobe_marker = 0;
    }
}

/// # Safety
/// `cinfo` must have been started for a picture of this size.
unsafe fn write_rows(cinfo: &mut jpeg_compress_struct, image: &RgbImage) {
    let stride = image.width() as usize * 3;
    let rows: Vec<*const u8> = image
        .as_raw()
        .chunks_exact(stride)
        .map(<[u8]>::as_ptr)
        .collect();
    let mut written = 0;
    while let Some(rest) = rows.get(written..).filter(|rest| !rest.is_empty()) {
        // SAFETY: each pointer is the begin of a row of `stride` bytes that lives as long as
        // `image`.
        let count = unsafe {
            jpeg_write_scanlines(cinfo, rest.as_ptr(), u32::try_from(rest.len()).unwrap_or(1))
        };
        if count == 0 {
            return;
        }
        written += count as usize;
    }
}
