//! Classes of custom node packs as they take models and folders: inputs that they do not list,
//! lists of their own, plain paths.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Call, Datum, Produced, Raised};
use super::spec::{Class, Shape, choice, class, file, int, plain, shown, text, widget};
use crate::simulator::folders::files_below;
use crate::simulator::picture::Picture;
use crate::simulator::python;

/// The classes of this file.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn classes() -> Vec<Class> {
    let pack = |name, module, run| class(name, "packs", run).in_module(module);
    vec![
        pack(
            "Power Lora Loader (rgthree)",
            "custom_nodes.rgthree-comfy",
            power_lora,
        )
        .takes(plain("model", "MODEL").optional())
        .takes(plain("clip", "CLIP").optional())
        .flexible()
        .gives("MODEL")
        .gives("CLIP"),
        pack(
            "Power Prompt (rgthree)",
            "custom_nodes.rgthree-comfy",
            power_prompt,
        )
        .takes(text("prompt", "", true))
        .takes(shown("insert_lora", &["CHOOSE", "DISABLE LORAS"], "loras", stem).optional())
        .gives_named("STRING", "TEXT"),
        pack(
            "Lora Loader (LoraManager)",
            "custom_nodes.ComfyUI-Lora-Manager",
            lora_manager,
        )
        .takes(text("text", "", true).optional())
        .takes(plain("model", "MODEL").optional())
        .flexible()
        .gives("MODEL"),
        pack("easy svdLoader", "custom_nodes.ComfyUI-Easy-Use", named)
            .takes(shown("ckpt_name", &[], "checkpoints", svd))
            .takes(shown("vae_name", &["Baked VAE"], "vae", |name| {
                Some(name.to_owned())
            }))
            .gives("MODEL"),
        // Its list is made by an index of its own, which has not seen what came later.
        pack("SimIndexedLoader", "custom_nodes.simulator", named)
            .takes(choice(
                "lora_name",
                &["None", "indexed.safetensors"],
                Shape::List,
            ))
            .gives("MODEL"),
        pack(
            "LoadImagesFromFolderKJ",
            "custom_nodes.ComfyUI-KJNodes",
            folder,
        )
        .takes(text("folder", "", false))
        .takes(int("image_load_cap", 0, 0, 100_000).optional())
        .gives("IMAGE")
        .gives_named("INT", "count"),
        pack(
            "easy loadImagesForLoop",
            "custom_nodes.ComfyUI-Easy-Use",
            folder,
        )
        .takes(text("directory", "X://insert/path/here", false))
        .gives("IMAGE")
        .gives_named("INT", "count"),
        pack("SimOpenImage", "custom_nodes.simulator", open)
            .takes(text("image", "", false))
            .gives("IMAGE"),
        pack("Load3D", "comfy_extras.nodes_load_3d", named)
            .takes(
                file(
                    "model_file",
                    "model",
                    &["glb"],
                    Some("file_upload"),
                    Shape::List,
                )
                .optional(),
            )
            .takes(widget("image", "LOAD_3D"))
            .gives_named("STRING", "mesh_path"),
        // Shows what it got, whatever that is.
        pack("SimShowInputs", "custom_nodes.simulator", show)
            .flexible()
            .saves()
            .changing(),
    ]
}

fn stem(name: &str) -> Option<String> {
    name.rsplit_once('.').map(|(stem, _)| stem.to_owned())
}

fn svd(name: &str) -> Option<String> {
    name.to_lowercase().contains("svd").then(|| name.to_owned())
}

/// The file of that name, with or without its extension.
fn lora(call: &Call<'_>, name: &str) -> Option<String> {
    let known = call.instance.folders.list("loras");
    let mut known = known.into_iter();
    known.find(|file| file == name || stem(file).as_deref() == Some(name))
}

/// The model with the names of what was put on it.
fn with(call: &Call<'_>, loras: &[String]) -> Datum {
    let model = match call.datum("model") {
        Some(Datum::Opaque(_, name)) => name.to_string(),
        _ => "none".to_owned(),
    };
    let name = loras
        .iter()
        .fold(model, |name, lora| format!("{name}+{lora}"));
    Datum::Opaque("MODEL", name.into())
}

fn power_lora(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let mut names: Vec<&String> = call.inputs.keys().collect();
    names.sort();
    let wanted = names.into_iter().filter_map(|name| {
        let value = call.value(name);
        let on = value.get("on").is_some_and(python::truthy);
        let counts = name.to_uppercase().starts_with("LORA_") && on;
        (counts && value.get("strength").is_some()).then_some(value)
    });
    // What it does not find, it passes over.
    let loras: Vec<String> = wanted
        .filter_map(|value| lora(call, value.get("lora")?.as_str()?))
        .collect();
    let outputs = vec![with(call, &loras), Datum::Opaque("CLIP", Arc::from(""))];
    Ok(Produced {
        outputs,
        ..Produced::default()
    })
}

fn lora_manager(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let given = call.value("loras");
    let list = given.get("__value__").unwrap_or(&given).clone();
    let entries = list.as_array().cloned().unwrap_or_default();
    let active = entries
        .iter()
        .filter(|entry| entry.get("active").is_none_or(python::truthy));
    let loras: Vec<String> = active
        .filter_map(|entry| lora(call, entry.get("name")?.as_str()?))
        .collect();
    Ok(Produced::one(with(call, &loras)))
}

fn power_prompt(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let shown = format!("{}{}", call.text("prompt"), call.text("insert_lora"));
    Ok(Produced::one(Datum::Json(shown.into())))
}

/// Gives the names of what it was given.
fn named(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let names = ["ckpt_name", "lora_name", "image"].map(|name| call.text(name));
    Ok(Produced::one(Datum::Opaque("MODEL", names.concat().into())))
}

fn folder(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = [call.text("folder"), call.text("directory")].concat();
    // Relative to where ComfyUI was started, which is nowhere in particular.
    let root = Path::new(&name);
    if !root.is_absolute() || !root.is_dir() {
        let message = format!("[Errno 2] No such file or directory: '{name}'");
        return Err(Raised::new("FileNotFoundError", message));
    }
    let mut names = files_below(root);
    names.retain(|name| !name.contains('/'));
    names.sort();
    let pictures = names
        .iter()
        .filter_map(|name| Picture::decoded(&std::fs::read(root.join(name)).ok()?));
    let pictures: Vec<Picture> = pictures.collect();
    let count = pictures.len();
    if count == 0 {
        let message = format!("No files in directory '{name}'.");
        return Err(Raised::new("FileNotFoundError", message));
    }
    let outputs = vec![Datum::Images(Arc::new(pictures)), Datum::Json(json!(count))];
    Ok(Produced {
        outputs,
        ..Produced::default()
    })
}

fn open(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("image");
    let path = Path::new(&name);
    let absent = || Raised::new("FileNotFoundError", format!("No such file: '{name}'"));
    let bytes = std::fs::read(
        Some(path)
            .filter(|path| path.is_absolute())
            .ok_or_else(absent)?,
    )?;
    let picture = Picture::decoded(&bytes).ok_or_else(absent)?;
    Ok(Produced::one(Datum::Images(Arc::new(vec![picture]))))
}

fn show(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let given: serde_json::Map<String, Value> = call
        .inputs
        .iter()
        .map(|(name, datum)| (name.clone(), datum.shown()))
        .collect();
    let shown = Value::Object(given).to_string();
    Ok(Produced::shown(json!({"text": [shown]}), vec![]))
}
