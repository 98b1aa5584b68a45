//! Pictures that go out.

use serde_json::{Value, json};

use super::change::extent;
use crate::simulator::nodes::call::{Call, Produced, Raised};
use crate::simulator::nodes::files::{SavePath, metadata};
use crate::simulator::picture::{Picture, animated_png, animated_webp, png};

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

/// Writes one file that holds all pictures.
fn save_one(
    call: &Call<'_>,
    images: &[Picture],
    extension: &str,
    encode: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Value, Raised> {
    let prefix = call.text("filename_prefix");
    let mut path = SavePath::new(call, &prefix, "output", extent(images))?;
    path.write(0, extension, &encoded(encode())?)
}

pub(super) fn save(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        extent(&images),
    )?;
    Ok(Produced::shown(write_each(call, &images, path)?, vec![]))
}

pub(super) fn preview(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        write_each(call, &call.images("images")?, SavePath::preview(call)?)?,
        vec![],
    ))
}

pub(super) fn preview_mask(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        write_each(call, &call.images("mask")?, SavePath::preview(call)?)?,
        vec![],
    ))
}

pub(super) fn save_websocket(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let count = images.len() as u64;
    let client = call.current.client_id.as_deref();
    for (index, picture) in (1u64..).zip(images.iter()) {
        call.step(index, count, |_| None)?;
        let file = encoded(png(picture, &[]))?;
        match client.filter(|client| call.instance.hub.wants_preview_metadata(Some(client))) {
            Some(client) => {
                let about = json!({"node_id": call.node, "prompt_id": call.current.prompt_id,
                "display_node_id": call.display, "parent_node_id": null,
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

pub(super) fn save_webp(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let file = save_one(call, &images, "webp", || {
        animated_webp(&images, frame_time(call.float("fps", 6.0)).into())
    })?;
    Ok(Produced::shown(
        json!({"images": [file], "animated": [images.len() != 1]}),
        vec![],
    ))
}

pub(super) fn save_apng(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let file = save_one(call, &images, "png", || {
        let time = frame_time(call.float("fps", 6.0));
        animated_png(&images, &metadata(call), time)
    })?;
    Ok(Produced::shown(
        json!({"images": [file], "animated": [true]}),
        vec![],
    ))
}

pub(super) fn save_svg(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let (width, height) = extent(&images);
    let mut path = SavePath::new(
        call,
        &call.text("filename_prefix"),
        "output",
        (width, height),
    )?;
    let picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\"><rect \
         width=\"100%\" height=\"100%\" fill=\"#357\"/></svg>\n"
    );
    let file = path.write(0, "svg", picture.as_bytes())?;
    Ok(Produced::shown(json!({"images": [file]}), vec![]))
}
