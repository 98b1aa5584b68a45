//! Pictures: making, loading, changing, saving.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Call, Datum, Produced, Raised};
use super::files::{SavePath, metadata};
use super::spec::{
    Class, Shape, boolean, choice, class, file, float, int, output_file, plain, text,
};
use crate::simulator::args::Imitate;
use crate::simulator::picture::{Picture, animated_png, animated_webp, png};

const PICTURES: &[&str] = &[
    "png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif",
];
const UPSCALING: &[&str] = &["nearest-exact", "bilinear", "area", "bicubic", "lanczos"];

/// The classes of this file.
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

fn empty(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let colour = u32::try_from(call.whole("color")).unwrap_or(0);
    let picture = Picture::filled(call.count("width", 512), call.count("height", 512), colour);
    Ok(Produced::one(pictures(vec![
        picture;
        call.count("batch_size", 1)
            as usize
    ])))
}

fn read(call: &Call<'_>, name: &str) -> Result<Picture, Raised> {
    let path = call
        .instance
        .folders
        .annotated(name)
        .ok_or_else(|| Raised::new("ValueError", format!("Invalid image file: {name}")))?;
    let bytes = std::fs::read(&path)?;
    Picture::decoded(&bytes).ok_or_else(|| {
        Raised::new(
            "PIL.UnidentifiedImageError",
            format!("cannot identify image file '{}'", path.display()),
        )
    })
}

fn mask_of(picture: &Picture) -> Picture {
    let rgb = match &picture.alpha {
        Some(alpha) => alpha.iter().flat_map(|a| [255 - a; 3]).collect(),
        None => vec![0; picture.rgb.len()],
    };
    Picture {
        rgb: Arc::new(rgb),
        alpha: None,
        ..picture.clone()
    }
}

fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let picture = read(call, &call.text("image"))?;
    let mask = mask_of(&picture);
    Ok(Produced {
        outputs: vec![
            pictures(vec![Picture {
                alpha: None,
                ..picture
            }]),
            pictures(vec![mask]),
        ],
        ui: None,
        ..Produced::default()
    })
}

fn load_mask(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let picture = read(call, &call.text("image"))?;
    Ok(Produced::one(pictures(vec![mask_of(&picture)])))
}

fn each(
    call: &Call<'_>,
    name: &str,
    change: impl Fn(&Picture) -> Picture,
) -> Result<Produced, Raised> {
    Ok(Produced::one(pictures(
        call.images(name)?.iter().map(change).collect(),
    )))
}

fn scale(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (width, height) = (call.count("width", 0), call.count("height", 0));
    each(call, "image", |picture| {
        let side = |want: u32, other: u32, own: u32, own_other: u32| match (want, other) {
            (0, 0) => own,
            (0, other) => (own * other / own_other.max(1)).max(1),
            (want, _) => want,
        };
        picture.scaled(
            side(width, height, picture.width, picture.height),
            side(height, width, picture.height, picture.width),
        )
    })
}

fn scale_by(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let by = call.float("scale_by", 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a factor of at most eight on a picture's side"
    )]
    let side = |own: u32| (f64::from(own) * by).round().max(1.0) as u32;
    each(call, "image", |picture| {
        picture.scaled(side(picture.width), side(picture.height))
    })
}

fn invert(call: &mut Call<'_>) -> Result<Produced, Raised> {
    each(call, "image", Picture::inverted)
}

fn pass(call: &mut Call<'_>) -> Result<Produced, Raised> {
    each(call, "mask", Picture::clone)
}

fn batch(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (first, second) = (call.images("image1")?, call.images("image2")?);
    let (width, height) = first.first().map_or((1, 1), |p| (p.width, p.height));
    Ok(Produced::one(pictures(
        first
            .iter()
            .cloned()
            .chain(second.iter().map(|p| p.scaled(width, height)))
            .collect(),
    )))
}

fn repeat(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("image")?;
    Ok(Produced::one(pictures(
        images
            .iter()
            .cycle()
            .take(images.len() * call.count("amount", 1) as usize)
            .cloned()
            .collect(),
    )))
}

fn extent(images: &[Picture]) -> (u32, u32) {
    images
        .first()
        .map_or((0, 0), |picture| (picture.width, picture.height))
}

fn encoded(result: Result<Vec<u8>, String>) -> Result<Vec<u8>, Raised> {
    result.map_err(|message| Raised::new("OSError", message))
}

fn write_each(call: &Call<'_>, images: &[Picture], mut path: SavePath) -> Result<Value, Raised> {
    let texts = metadata(call);
    let files = images
        .iter()
        .enumerate()
        .map(|(index, picture)| path.write(index, "png", &encoded(png(picture, &texts))?))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"images": files}))
}

fn save(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        extent(&images),
    )?;
    Ok(Produced::shown(write_each(call, &images, path)?, vec![]))
}

fn preview(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        write_each(call, &call.images("images")?, SavePath::preview(call)?)?,
        vec![],
    ))
}

fn preview_mask(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        write_each(call, &call.images("mask")?, SavePath::preview(call)?)?,
        vec![],
    ))
}

fn save_websocket(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let count = images.len() as u64;
    let client = call.current.client_id.as_deref();
    for (index, picture) in (1u64..).zip(images.iter()) {
        call.step(index, count, |_| None)?;
        let file = encoded(png(picture, &[]))?;
        match client.filter(|client| call.instance.hub.wants_preview_metadata(Some(client))) {
            Some(client) => {
                let about = json!({"node_id": call.node, "prompt_id": call.current.prompt_id, "display_node_id": call.display, "parent_node_id": null,
                    "real_node_id": call.node, "image_type": "image/png"});
                call.instance
                    .hub
                    .preview_with_metadata(&about, &file, client);
            }
            None => call.instance.hub.preview(2, &file, client),
        }
    }
    Ok(Produced::default())
}

/// Milliseconds of one frame.
pub fn frame_time(fps: f64) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let time = (1000.0 / fps.max(0.02)).clamp(1.0, 65000.0) as u16;
    time
}

fn save_webp(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let mut path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        extent(&images),
    )?;
    let file = path.write(
        0,
        "webp",
        &encoded(animated_webp(
            &images,
            frame_time(call.float("fps", 6.0)).into(),
        ))?,
    )?;
    Ok(Produced::shown(
        json!({"images": [file], "animated": [images.len() != 1]}),
        vec![],
    ))
}

fn save_apng(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let mut path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        extent(&images),
    )?;
    let file = path.write(
        0,
        "png",
        &encoded(animated_png(
            &images,
            &metadata(call),
            frame_time(call.float("fps", 6.0)),
        ))?,
    )?;
    Ok(Produced::shown(
        json!({"images": [file], "animated": [true]}),
        vec![],
    ))
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

fn save_svg(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let (width, height) = extent(&images);
    let mut path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        (width, height),
    )?;
    let picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\"><rect width=\"100%\" height=\"100%\" fill=\"#357\"/></svg>\n"
    );
    let file = path.write(0, "svg", picture.as_bytes())?;
    Ok(Produced::shown(json!({"images": [file]}), vec![]))
}

/// Passing the pictures on, as newer save nodes do.
pub fn passed_on(call: &Call<'_>, name: &str) -> Vec<Datum> {
    if call.instance.imitate == Imitate::Current {
        call.datum(name).into_iter().collect()
    } else {
        vec![]
    }
}
