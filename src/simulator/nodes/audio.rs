//! Sounds.

use serde_json::json;

use super::call::{Call, Datum, Produced, Raised};
use super::files::SavePath;
use super::spec::{Class, Shape, class, file, float, int, plain, text};
use crate::simulator::sound::Sound;

const SOUNDS: &[&str] = &[
    "wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "mp4", "webm", "mkv", "mov",
];

/// The classes of this file.
pub fn classes() -> Vec<Class> {
    let saver = |name, run| {
        class(name, "audio", run)
            .takes(plain("audio", "AUDIO"))
            .takes(text("filename_prefix", "audio/ComfyUI", false))
            .saves()
            .in_module("comfy_extras.nodes_audio")
    };
    vec![
        class("LoadAudio", "audio", load)
            .takes(file(
                "audio",
                "audio",
                SOUNDS,
                Some("audio_upload"),
                Shape::List,
            ))
            .gives("AUDIO")
            .in_module("comfy_extras.nodes_audio"),
        class("EmptyAudio", "audio", empty)
            .takes(float("duration", 60.0, 0.0, 600.0))
            .takes(int("sample_rate", 44100, 1, 192_000))
            .takes(int("channels", 2, 1, 2))
            .gives("AUDIO")
            .in_module("comfy_extras.nodes_audio"),
        class("SimTone", "simulator", tone)
            .takes(float("duration", 1.0, 0.0, 600.0))
            .takes(float("pitch", 440.0, 0.0, 20000.0))
            .gives("AUDIO")
            .in_module("custom_nodes.simulator"),
        saver("SaveAudio", save_flac),
        saver("SimSaveWAV", save_wav),
        class("PreviewAudio", "audio", preview)
            .takes(plain("audio", "AUDIO"))
            .saves()
            .in_module("comfy_extras.nodes_audio"),
    ]
}

fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("audio");
    let path = call
        .instance
        .folders
        .annotated(&name)
        .ok_or_else(|| Raised::new("ValueError", format!("Invalid audio file: {name}")))?;
    let bytes = std::fs::read(&path)?;
    if let Some(sound) = Sound::from_wav(&bytes) {
        return Ok(Produced::one(Datum::Audio(sound)));
    }
    // Other containers are not decoded: what they look like decides, and a second of silence stands
    // for them.
    let known = [
        &b"fLaC"[..],
        b"OggS",
        b"ID3",
        b"\xFF\xFB",
        b"\x1A\x45\xDF\xA3",
    ]
    .iter()
    .any(|head| bytes.starts_with(head))
        || bytes.get(4..8) == Some(b"ftyp");
    if known {
        return Ok(Produced::one(Datum::Audio(Sound::tone(1.0, 44100, 0.0))));
    }
    Err(Raised::new(
        "av.error.InvalidDataError",
        format!(
            "[Errno 1094995529] Invalid data found when processing input: '{}'",
            path.display()
        ),
    ))
}

fn empty(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Audio(Sound::tone(
        call.float("duration", 1.0),
        call.count("sample_rate", 44100).max(1),
        0.0,
    ))))
}

fn tone(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Audio(Sound::tone(
        call.float("duration", 1.0),
        44100,
        call.float("pitch", 440.0),
    ))))
}

fn sound(call: &Call<'_>) -> Result<Sound, Raised> {
    match call.datum("audio") {
        Some(Datum::Audio(sound)) => Ok(sound),
        _ => Err(Raised::new(
            "TypeError",
            "'NoneType' object is not subscriptable (audio)",
        )),
    }
}

fn write(mut path: SavePath, extension: &str, content: &[u8]) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        json!({"audio": [path.write(0, extension, content)?]}),
        vec![],
    ))
}

fn save_flac(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    write(path, "flac", &sound(call)?.flac())
}

fn save_wav(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    write(path, "wav", &sound(call)?.wav())
}

fn preview(call: &mut Call<'_>) -> Result<Produced, Raised> {
    write(SavePath::preview(call)?, "flac", &sound(call)?.flac())
}
