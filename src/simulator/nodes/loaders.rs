//! Model loaders: every (class, input, folder, shape) of comfyui.md section 6. They check that the
//! file exists and give its name.

use super::call::{Call, Datum, Produced, Raised};
use super::spec::{Class, Kind, Shape, Source, choice, class, float, model, plain};
use crate::simulator::args::Imitate;

type Row = (
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
    &'static [&'static str],
    Shape,
    bool,
);

/// Class, its (input, folders) pairs, output types, shape, and whether it is in the newer versions
/// only.
const TABLE: &[Row] = &[
    (
        "CheckpointLoaderSimple",
        &[("ckpt_name", &["checkpoints"])],
        &["MODEL", "CLIP", "VAE"],
        Shape::List,
        false,
    ),
    (
        "CheckpointLoader",
        &[
            ("config_name", &["configs"]),
            ("ckpt_name", &["checkpoints"]),
        ],
        &["MODEL", "CLIP", "VAE"],
        Shape::List,
        false,
    ),
    (
        "unCLIPCheckpointLoader",
        &[("ckpt_name", &["checkpoints"])],
        &["MODEL", "CLIP", "VAE", "CLIP_VISION"],
        Shape::List,
        false,
    ),
    (
        "ImageOnlyCheckpointLoader",
        &[("ckpt_name", &["checkpoints"])],
        &["MODEL", "CLIP_VISION", "VAE"],
        Shape::List,
        false,
    ),
    (
        "CreateHookModelAsLora",
        &[("ckpt_name", &["checkpoints"])],
        &["HOOKS"],
        Shape::List,
        false,
    ),
    (
        "CreateHookModelAsLoraModelOnly",
        &[("ckpt_name", &["checkpoints"])],
        &["HOOKS"],
        Shape::List,
        false,
    ),
    (
        "CreateHookLora",
        &[("lora_name", &["loras"])],
        &["HOOKS"],
        Shape::List,
        false,
    ),
    (
        "CreateHookLoraModelOnly",
        &[("lora_name", &["loras"])],
        &["HOOKS"],
        Shape::List,
        false,
    ),
    (
        "UNETLoader",
        &[("unet_name", &["diffusion_models"])],
        &["MODEL"],
        Shape::List,
        false,
    ),
    (
        "CLIPLoader",
        &[("clip_name", &["text_encoders"])],
        &["CLIP"],
        Shape::List,
        false,
    ),
    (
        "DualCLIPLoader",
        &[
            ("clip_name1", &["text_encoders"]),
            ("clip_name2", &["text_encoders"]),
        ],
        &["CLIP"],
        Shape::List,
        false,
    ),
    (
        "TripleCLIPLoader",
        &[
            ("clip_name1", &["text_encoders"]),
            ("clip_name2", &["text_encoders"]),
            ("clip_name3", &["text_encoders"]),
        ],
        &["CLIP"],
        Shape::Combo,
        false,
    ),
    (
        "QuadrupleCLIPLoader",
        &[
            ("clip_name1", &["text_encoders"]),
            ("clip_name2", &["text_encoders"]),
            ("clip_name3", &["text_encoders"]),
            ("clip_name4", &["text_encoders"]),
        ],
        &["CLIP"],
        Shape::Combo,
        false,
    ),
    (
        "CLIPVisionLoader",
        &[("clip_name", &["clip_vision"])],
        &["CLIP_VISION"],
        Shape::List,
        false,
    ),
    (
        "StyleModelLoader",
        &[("style_model_name", &["style_models"])],
        &["STYLE_MODEL"],
        Shape::List,
        false,
    ),
    (
        "ControlNetLoader",
        &[("control_net_name", &["controlnet"])],
        &["CONTROL_NET"],
        Shape::List,
        false,
    ),
    (
        "DiffControlNetLoader",
        &[("control_net_name", &["controlnet"])],
        &["CONTROL_NET"],
        Shape::List,
        false,
    ),
    (
        "GLIGENLoader",
        &[("gligen_name", &["gligen"])],
        &["GLIGEN"],
        Shape::List,
        false,
    ),
    (
        "UpscaleModelLoader",
        &[("model_name", &["upscale_models"])],
        &["UPSCALE_MODEL"],
        Shape::Combo,
        false,
    ),
    (
        "HypernetworkLoader",
        &[("hypernetwork_name", &["hypernetworks"])],
        &["MODEL"],
        Shape::List,
        false,
    ),
    (
        "PhotoMakerLoader",
        &[("photomaker_model_name", &["photomaker"])],
        &["PHOTOMAKER"],
        Shape::Combo,
        false,
    ),
    (
        "ModelPatchLoader",
        &[("name", &["model_patches"])],
        &["MODEL_PATCH"],
        Shape::List,
        false,
    ),
    (
        "AudioEncoderLoader",
        &[("audio_encoder_name", &["audio_encoders"])],
        &["AUDIO_ENCODER"],
        Shape::Combo,
        false,
    ),
    (
        "DiffusersLoader",
        &[("model_path", &["diffusers"])],
        &["MODEL", "CLIP", "VAE"],
        Shape::List,
        false,
    ),
    (
        "LatentUpscaleModelLoader",
        &[("model_name", &["latent_upscale_models"])],
        &["LATENT_UPSCALE_MODEL"],
        Shape::Combo,
        true,
    ),
    (
        "LTXVAudioVAELoader",
        &[("ckpt_name", &["vae", "checkpoints"])],
        &["VAE"],
        Shape::Combo,
        true,
    ),
    (
        "LTXAVTextEncoderLoader",
        &[
            ("text_encoder", &["text_encoders"]),
            ("ckpt_name", &["checkpoints"]),
        ],
        &["CLIP"],
        Shape::Combo,
        true,
    ),
    (
        "LoadBackgroundRemovalModel",
        &[("bg_removal_name", &["background_removal"])],
        &["BACKGROUND_REMOVAL"],
        Shape::Combo,
        true,
    ),
    (
        "FrameInterpolationModelLoader",
        &[("model_name", &["frame_interpolation"])],
        &["FRAME_INTERPOLATION_MODEL"],
        Shape::Combo,
        true,
    ),
    // As a custom node would: a folder of its own.
    (
        "SimStyleLoader",
        &[("style", &["simulator_styles"])],
        &["STYLE_MODEL"],
        Shape::List,
        false,
    ),
];

/// The classes of this file.
pub fn classes(imitate: Imitate) -> Vec<Class> {
    let mut classes: Vec<Class> = TABLE
        .iter()
        .filter(|row| !row.4 || imitate == Imitate::Current)
        .map(|(name, inputs, outputs, shape, _)| {
            let mut class = class(
                name,
                if name.starts_with("Sim") {
                    "simulator"
                } else {
                    "loaders"
                },
                load,
            );
            if name.starts_with("Sim") {
                class = class.in_module("custom_nodes.simulator_styles");
            }
            if *name == "HypernetworkLoader" {
                class = class.takes(plain("model", "MODEL"));
            }
            for (input, folders) in *inputs {
                class = class.takes(model(input, folders, &[], *shape));
            }
            let extra = match *name {
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
            };
            if let Some(input) = extra {
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
        })
        .collect();
    classes.push(
        class("VAELoader", "loaders", load)
            .takes(model("vae_name", &["vae"], &["pixel_space"], Shape::List))
            .gives("VAE")
            .shown_as("Load VAE"),
    );
    for (name, with_clip) in [("LoraLoader", true), ("LoraLoaderModelOnly", false)] {
        let mut lora = class(name, "loaders", lora).takes(plain("model", "MODEL"));
        if with_clip {
            lora = lora.takes(plain("clip", "CLIP"));
        }
        lora = lora
            .takes(model("lora_name", &["loras"], &[], Shape::List))
            .takes(float("strength_model", 1.0, -100.0, 100.0))
            .gives("MODEL");
        if with_clip {
            lora = lora
                .takes(float("strength_clip", 1.0, -100.0, 100.0))
                .gives("CLIP");
        }
        classes.push(lora);
    }
    classes.push(
        class("TrainLoraNode", "training", lora)
            .takes(plain("model", "MODEL"))
            .takes(model("existing_lora", &["loras"], &["[None]"], Shape::List))
            .gives("MODEL"),
    );
    classes
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
