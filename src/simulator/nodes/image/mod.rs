//! Pictures: making, loading, changing, saving.

mod change;
mod load;
mod save;

use std::sync::Arc;

use change::{batch, each, extent, invert, repeat, scale, scale_by};
use load::{empty, load, load_mask};
use save::{preview, preview_mask, save, save_apng, save_svg, save_webp, save_websocket};
use serde_json::json;

use super::call::{Call, Datum, Produced, Raised};
use super::spec::{
    Class, Shape, boolean, choice, class, file, float, int, output_file, plain, text,
};
use crate::simulator::args::Imitate;
use crate::simulator::picture::Picture;

pub use save::frame_time;

const PICTURES: &[&str] = &[
    "png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif",
];

const UPSCALING: &[&str] = &["nearest-exact", "bilinear", "area", "bicubic", "lanczos"];

/// The classes of this file.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn classes() -> Vec<Class> {
    vec![
        class("EmptyImage", "image", empty)
            .takes(int("width", 512, 1, 16384))
            .takes(int("height", 512, 1, 16384))
            .takes(int("batch_size", 1, 1, 4096))
            .takes(int("color", 0, 0, 0xFF_FFFF))
            .gives("IMAGE"),
        class("LoadImage", "image", load)
            .takes(file(
                "image",
                "image",
                PICTURES,
                Some("image_upload"),
                Shape::List,
            ))
            .gives("IMAGE")
            .gives("MASK")
            .shown_as("Load Image"),
        class("LoadImageMask", "mask", load_mask)
            .takes(file(
                "image",
                "image",
                &[],
                Some("image_upload"),
                Shape::List,
            ))
            .takes(choice(
                "channel",
                &["alpha", "red", "green", "blue"],
                Shape::List,
            ))
            .gives("MASK"),
        class("LoadImageOutput", "image", load)
            .takes(output_file("image"))
            .gives("IMAGE")
            .gives("MASK"),
        class("ImageScale", "image/upscaling", scale)
            .takes(plain("image", "IMAGE"))
            .takes(choice("upscale_method", UPSCALING, Shape::List))
            .takes(int("width", 512, 0, 16384))
            .takes(int("height", 512, 0, 16384))
            .takes(choice("crop", &["disabled", "center"], Shape::List))
            .gives("IMAGE")
            .shown_as("Upscale Image"),
        class("ImageScaleBy", "image/upscaling", scale_by)
            .takes(plain("image", "IMAGE"))
            .takes(choice("upscale_method", UPSCALING, Shape::List))
            .takes(float("scale_by", 1.0, 0.01, 8.0))
            .gives("IMAGE"),
        class("ImageInvert", "image", invert)
            .takes(plain("image", "IMAGE"))
            .gives("IMAGE")
            .shown_as("Invert Image"),
        class("ImageBatch", "image", batch)
            .takes(plain("image1", "IMAGE"))
            .takes(plain("image2", "IMAGE"))
            .gives("IMAGE")
            .shown_as("Batch Images"),
        class("RepeatImageBatch", "image/batch", repeat)
            .takes(plain("image", "IMAGE"))
            .takes(int("amount", 1, 1, 4096))
            .gives("IMAGE"),
        class("MaskToImage", "mask", pass)
            .takes(plain("mask", "MASK"))
            .gives("IMAGE"),
        class("SaveImage", "image", save)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "ComfyUI", false))
            .saves()
            .shown_as("Save Image"),
        class("PreviewImage", "image", preview)
            .takes(plain("images", "IMAGE"))
            .saves()
            .shown_as("Preview Image"),
        class("MaskPreview", "mask", preview_mask)
            .takes(plain("mask", "MASK"))
            .saves(),
        class("SaveImageWebsocket", "api/image", save_websocket)
            .takes(plain("images", "IMAGE"))
            .saves()
            .in_module("custom_nodes.websocket_image_save")
            .changing(),
        class("SaveAnimatedWEBP", "image/animation", save_webp)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "ComfyUI", false))
            .takes(float("fps", 6.0, 0.01, 1000.0))
            .takes(boolean("lossless", true))
            .takes(int("quality", 80, 0, 100))
            .takes(choice(
                "method",
                &["default", "fastest", "slowest"],
                Shape::List,
            ))
            .saves()
            .in_module("comfy_extras.nodes_images"),
        class("SaveAnimatedPNG", "image/animation", save_apng)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "ComfyUI", false))
            .takes(float("fps", 6.0, 0.01, 1000.0))
            .takes(int("compress_level", 4, 0, 9))
            .saves()
            .in_module("comfy_extras.nodes_images"),
        class("GetImageSize", "image", size)
            .takes(plain("image", "IMAGE"))
            .gives_named("INT", "width")
            .gives_named("INT", "height")
            .gives_named("INT", "batch_size")
            .in_module("comfy_extras.nodes_images"),
        class("SaveSVGNode", "image/save", save_svg)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "svg/ComfyUI", false))
            .saves()
            .in_module("comfy_extras.nodes_images"),
    ]
}

fn pictures(frames: Vec<Picture>) -> Datum {
    Datum::Images(Arc::new(frames))
}

fn pass(call: &mut Call<'_>) -> Result<Produced, Raised> {
    each(call, "mask", Picture::clone)
}

fn size(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("image")?;
    let (width, height) = extent(&images);
    call.instance.hub.node_text(
        call.node,
        &format!(
            "width: {width}, height: {height}\n batch size: {}",
            images.len()
        ),
    );
    Ok(Produced {
        outputs: [json!(width), json!(height), json!(images.len())]
            .map(Datum::Json)
            .into(),
        ui: None,
        ..Produced::default()
    })
}

/// Passing the pictures on, as newer save nodes do.
pub fn passed_on(call: &Call<'_>, name: &str) -> Vec<Datum> {
    if call.instance.imitate == Imitate::Current {
        call.datum(name).into_iter().collect()
    } else {
        vec![]
    }
}
