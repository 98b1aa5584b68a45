//! Model loaders: every (class, input, folder, shape) of comfyui.md section 6. They check that the
//! file exists and give its name.

mod table;

use super::call::{Call, Datum, Produced, Raised};
use super::spec::{Class, Input, Kind, Shape, Source, choice, class, float, model, plain};
use crate::simulator::args::Imitate;
use table::{Row, TABLE};

/// The classes of this file.
pub fn classes(imitate: Imitate) -> Vec<Class> {
    let mut classes: Vec<Class> = TABLE
        .iter()
        .filter(|row| !row.4 || imitate == Imitate::Current)
        .map(loader)
        .collect();
    classes.push(
        class("VAELoader", "loaders", load)
            .takes(model("vae_name", &["vae"], &["pixel_space"], Shape::List))
            .gives("VAE")
            .shown_as("Load VAE"),
    );
    for (name, with_clip) in [("LoraLoader", true), ("LoraLoaderModelOnly", false)] {
        classes.push(lora_loader(name, with_clip));
    }
    classes.push(
        class("TrainLoraNode", "training", lora)
            .takes(plain("model", "MODEL"))
            .takes(model("existing_lora", &["loras"], &["[None]"], Shape::List))
            .gives("MODEL"),
    );
    classes
}

fn loader((name, inputs, outputs, shape, _): &Row) -> Class {
    let category = if name.starts_with("Sim") {
        "simulator"
    } else {
        "loaders"
    };
    let mut class = class(name, category, load);
    if name.starts_with("Sim") {
        class = class.in_module("custom_nodes.simulator_styles");
    }
    if *name == "HypernetworkLoader" {
        class = class.takes(plain("model", "MODEL"));
    }
    for (input, folders) in *inputs {
        class = class.takes(model(input, folders, &[], *shape));
    }
    if let Some(input) = extra_input(name) {
        class = class.takes(input);
    }
    for output in *outputs {
        class = class.gives(output);
    }
    if *shape == Shape::Combo {
        class.v3()
    } else {
        class
    }
}

/// What a loader takes besides its files.
fn extra_input(class: &str) -> Option<Input> {
    match class {
        "UNETLoader" => Some(choice(
            "weight_dtype",
            &["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"],
            Shape::List,
        )),
        "CLIPLoader" => Some(choice(
            "type",
            &[
                "stable_diffusion",
                "stable_cascade",
                "sd3",
                "ltxv",
                "flux2",
                "wan",
                "qwen_image",
            ],
            Shape::List,
        )),
        "DualCLIPLoader" => Some(choice(
            "type",
            &["sdxl", "sd3", "flux", "hunyuan_video"],
            Shape::List,
        )),
        "HypernetworkLoader" => Some(float("strength", 1.0, -10.0, 10.0)),
        _ => None,
    }
}

fn lora_loader(name: &'static str, with_clip: bool) -> Class {
    let mut loader = class(name, "loaders", lora).takes(plain("model", "MODEL"));
    if with_clip {
        loader = loader.takes(plain("clip", "CLIP"));
    }
    loader = loader
        .takes(model("lora_name", &["loras"], &[], Shape::List))
        .takes(float("strength_model", 1.0, -100.0, 100.0))
        .gives("MODEL");
    if with_clip {
        loader = loader
            .takes(float("strength_clip", 1.0, -100.0, 100.0))
            .gives("CLIP");
    }
    loader
}

/// Checks that the files are there.
fn check(call: &Call<'_>) -> Result<String, Raised> {
    let mut names = Vec::new();
    let Some(class) = call.instance.classes.get(call.class) else {
        return Ok(String::new());
    };
    for input in &class.inputs {
        let Kind::Combo(Source::Models(folders, extra), _) = &input.kind else {
            continue;
        };
        let name = call.text(input.name);
        let known = extra.contains(&name.as_str())
            || *folders == ["diffusers"]
            || folders
                .iter()
                .any(|folder| call.instance.folders.find_model(folder, &name).is_some());
        if !known {
            let folder = folders.first().copied().unwrap_or_default();
            return Err(Raised::new(
                "FileNotFoundError",
                format!("Model in folder '{folder}' with filename '{name}' not found."),
            ));
        }
        names.push(name);
    }
    Ok(names.join(", "))
}

fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name: std::sync::Arc<str> = check(call)?.into();
    let outputs = call
        .instance
        .classes
        .get(call.class)
        .map(|class| class.outputs.clone())
        .unwrap_or_default();
    Ok(Produced {
        outputs: outputs
            .into_iter()
            .map(|(kind, _)| Datum::Opaque(kind, name.clone()))
            .collect(),
        ui: None,
        ..Produced::default()
    })
}

fn lora(call: &mut Call<'_>) -> Result<Produced, Raised> {
    check(call)?;
    Ok(Produced {
        outputs: ["model", "clip"]
            .into_iter()
            .filter_map(|name| call.datum(name))
            .collect(),
        ui: None,
        ..Produced::default()
    })
}
