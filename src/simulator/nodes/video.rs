//! Videos: frames as JPEG pictures in an MP4 container, written here; and the popular loader and
//! combiner of VideoHelperSuite.

use std::sync::Arc;

use serde_json::json;

use super::call::{Call, Datum, Produced, Raised, Video};
use super::files::SavePath;
use super::image::{frame_time, passed_on};
use super::spec::{Class, Shape, boolean, choice, class, directory, file, float, int, plain, text};
use crate::simulator::args::Imitate;
use crate::simulator::folders::files_below;
use crate::simulator::picture::{Picture, animated_png, animated_webp};
use crate::simulator::reel;

const VIDEOS: &[&str] = &["mp4", "webm", "mkv", "mov", "avi", "gif"];

/// The classes of this file.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn classes(imitate: Imitate) -> Vec<Class> {
    let mut save = class("SaveVideo", "image/video", save_video)
        .takes(plain("video", "VIDEO"))
        .takes(text("filename_prefix", "video/ComfyUI", false))
        .takes(choice("format", &["auto", "mp4"], Shape::Combo))
        .takes(choice("codec", &["auto", "h264"], Shape::Combo));
    if imitate == Imitate::Current {
        save = save.gives("VIDEO");
        // Dynamic combos accept plain, dotted or no values.
        save.inputs
            .iter_mut()
            .filter(|input| matches!(input.name, "format" | "codec"))
            .for_each(|input| input.required = false);
    }
    vec![
        class("CreateVideo", "image/video", create)
            .takes(plain("images", "IMAGE"))
            .takes(float("fps", 30.0, 1.0, 120.0))
            .takes(plain("audio", "AUDIO").optional())
            .gives("VIDEO")
            .v3(),
        save.saves().v3().in_module("comfy_extras.nodes_video"),
        class("LoadVideo", "image/video", load)
            .takes(file(
                "file",
                "video",
                VIDEOS,
                Some("video_upload"),
                Shape::Combo,
            ))
            .gives("VIDEO")
            .v3(),
        class("GetVideoComponents", "image/video", parts)
            .takes(plain("video", "VIDEO"))
            .gives_named("IMAGE", "images")
            .gives_named("FLOAT", "fps")
            .v3(),
        class("VHS_LoadVideo", "Video Helper Suite", vhs_load)
            .takes(file(
                "video",
                "video",
                VIDEOS,
                Some("video_upload"),
                Shape::List,
            ))
            .takes(int("frame_load_cap", 0, 0, 100_000))
            .gives("IMAGE"),
        class("VHS_LoadImages", "Video Helper Suite", vhs_images)
            .takes(directory("directory"))
            .takes(int("image_load_cap", 0, 0, 100_000).optional())
            .gives("IMAGE")
            .gives("MASK"),
        class("VHS_VideoCombine", "Video Helper Suite", vhs_combine)
            .takes(plain("images", "IMAGE"))
            .takes(float("frame_rate", 8.0, 1.0, 120.0))
            .takes(int("loop_count", 0, 0, 100))
            .takes(text("filename_prefix", "AnimateDiff", false))
            .takes(choice(
                "format",
                &["image/webp", "image/apng", "video/h264-mp4"],
                Shape::List,
            ))
            .takes(boolean("pingpong", false))
            .takes(boolean("save_output", true))
            .saves()
            .in_module("custom_nodes.ComfyUI-VideoHelperSuite"),
    ]
}

fn video(call: &Call<'_>) -> Result<Arc<Video>, Raised> {
    match call.datum("video") {
        Some(Datum::Video(video)) => Ok(video),
        _ => Err(Raised::new(
            "AttributeError",
            "'NoneType' object has no attribute 'get_components'",
        )),
    }
}

fn create(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let frames = call.images("images")?.to_vec();
    Ok(Produced::one(Datum::Video(Arc::new(Video {
        frames,
        fps: call.float("fps", 30.0),
        source: None,
    }))))
}

fn read(call: &Call<'_>, name: &str) -> Result<Vec<u8>, Raised> {
    let path = call
        .instance
        .folders
        .annotated(name)
        .ok_or_else(|| Raised::new("ValueError", format!("Invalid video file: {name}")))?;
    Ok(std::fs::read(path)?)
}

/// A loaded file is not decoded: its frames are a gradient that its size chooses.
fn stand_in(bytes: &[u8], name: &str) -> Vec<Picture> {
    (0..4)
        .map(|frame| Picture::gradient(128, 128, bytes.len() as u64 + frame, name))
        .collect()
}

fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("file");
    let bytes = read(call, &name)?;
    let video = Video {
        frames: stand_in(&bytes, &name),
        fps: 24.0,
        source: Some(bytes),
    };
    // Newer versions show what was loaded too, as a file of type input.
    let ui = (call.instance.imitate == Imitate::Current).then(|| {
        let (subfolder, file) = name.rsplit_once('/').unwrap_or(("", &name));
        json!({
            "images": [{"filename": file, "subfolder": subfolder, "type": "input"}],
            "animated": [true]
        })
    });
    Ok(Produced {
        outputs: vec![Datum::Video(Arc::new(video))],
        ui,
        ..Produced::default()
    })
}

fn parts(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let video = video(call)?;
    Ok(Produced {
        outputs: vec![
            Datum::Images(Arc::new(video.frames.clone())),
            Datum::Json(json!(video.fps)),
        ],
        ui: None,
        ..Produced::default()
    })
}

fn save_video(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let video = video(call)?;
    let size = video
        .frames
        .first()
        .map_or((0, 0), |frame| (frame.width, frame.height));
    let mut path = SavePath::new(call, &call.text("filename_prefix"), "output", size)?;
    let content = match &video.source {
        Some(bytes) => bytes.clone(),
        None => reel::mp4(&video.frames, video.fps)
            .map_err(|message| Raised::new("av.error.ValueError", message))?,
    };
    let file = path.write(0, "mp4", &content)?;
    Ok(Produced::shown(
        json!({"images": [file], "animated": [true]}),
        passed_on(call, "video"),
    ))
}

fn vhs_load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("video");
    let bytes = read(call, &name)?;
    Ok(Produced::one(Datum::Images(Arc::new(stand_in(
        &bytes, &name,
    )))))
}

fn vhs_images(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("directory");
    let root = call
        .instance
        .folders
        .annotated(&name)
        .filter(|path| path.is_dir())
        .ok_or_else(|| {
            Raised::new(
                "FileNotFoundError",
                format!("{name} directory cannot be found"),
            )
        })?;
    let mut names = files_below(&root);
    names.retain(|name| !name.contains('/'));
    names.sort();
    let limit = call.count("image_load_cap", 0) as usize;
    let mut frames: Vec<Picture> = names
        .iter()
        .filter_map(|name| Picture::decoded(&std::fs::read(root.join(name)).ok()?))
        .take(if limit == 0 { usize::MAX } else { limit })
        .collect();
    let (width, height) = frames.first().map(|p| (p.width, p.height)).ok_or_else(|| {
        Raised::new(
            "FileNotFoundError",
            format!("No files in directory '{name}'."),
        )
    })?;
    frames.iter_mut().for_each(|frame| {
        *frame = Picture {
            alpha: None,
            ..frame.scaled(width, height)
        }
    });
    let masks = frames
        .iter()
        .map(|_| Picture::filled(width, height, 0))
        .collect();
    Ok(Produced {
        outputs: vec![
            Datum::Images(Arc::new(frames)),
            Datum::Images(Arc::new(masks)),
        ],
        ui: None,
        ..Produced::default()
    })
}

fn vhs_combine(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let (rate, format) = (call.float("frame_rate", 8.0), call.text("format"));
    let kind = if call.value("save_output") == json!(false) {
        "temp"
    } else {
        "output"
    };
    let size = images
        .first()
        .map_or((0, 0), |frame| (frame.width, frame.height));
    let mut path = SavePath::new(call, &call.text("filename_prefix"), kind, size)?;
    let (extension, content) = match format.as_str() {
        "image/webp" => ("webp", animated_webp(&images, frame_time(rate).into())),
        "image/apng" => ("png", animated_png(&images, &[], frame_time(rate))),
        _ => ("mp4", reel::mp4(&images, rate)),
    };
    let (file, mut about) = path.next(0, extension);
    std::fs::write(
        &file,
        content.map_err(|message| Raised::new("OSError", message))?,
    )?;
    if let Some(about) = about.as_object_mut() {
        about.extend([
            ("format".to_owned(), json!(format)),
            ("frame_rate".to_owned(), json!(rate)),
            ("fullpath".to_owned(), json!(file)),
        ]);
    }
    Ok(Produced::shown(json!({"gifs": [about]}), vec![]))
}
