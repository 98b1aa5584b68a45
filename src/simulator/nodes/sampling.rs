//! Text to latent to picture.

use std::sync::Arc;

use super::call::{Call, Datum, Latent, Produced, Raised};
use super::files::SavePath;
use super::spec::{Class, Shape, choice, class, file, float, int, plain, seed, text};
use crate::simulator::picture::Picture;
use serde_json::json;

/// Names of samplers.
pub(super) const SAMPLERS: &[&str] = &[
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "lms",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "ddpm",
    "lcm",
    "res_multistep",
    "uni_pc",
    "ddim",
];
const SCHEDULERS: &[&str] = &[
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
];

/// The classes of this file.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn classes() -> Vec<Class> {
    vec![
        class("KSampler", "sampling", sample)
            .takes(plain("model", "MODEL"))
            .takes(seed("seed"))
            .takes(int("steps", 20, 1, 10000))
            .takes(float("cfg", 8.0, 0.0, 100.0))
            .takes(choice("sampler_name", SAMPLERS, Shape::List))
            .takes(choice("scheduler", SCHEDULERS, Shape::List))
            .takes(plain("positive", "CONDITIONING"))
            .takes(plain("negative", "CONDITIONING"))
            .takes(plain("latent_image", "LATENT"))
            .takes(float("denoise", 1.0, 0.0, 1.0))
            .gives("LATENT"),
        class("KSamplerAdvanced", "sampling", sample)
            .takes(plain("model", "MODEL"))
            .takes(choice("add_noise", &["enable", "disable"], Shape::List))
            .takes(seed("noise_seed"))
            .takes(int("steps", 20, 1, 10000))
            .takes(float("cfg", 8.0, 0.0, 100.0))
            .takes(choice("sampler_name", SAMPLERS, Shape::List))
            .takes(choice("scheduler", SCHEDULERS, Shape::List))
            .takes(plain("positive", "CONDITIONING"))
            .takes(plain("negative", "CONDITIONING"))
            .takes(plain("latent_image", "LATENT"))
            .takes(int("start_at_step", 0, 0, 10000))
            .takes(int("end_at_step", 10000, 0, 10000))
            .takes(choice(
                "return_with_leftover_noise",
                &["disable", "enable"],
                Shape::List,
            ))
            .gives("LATENT"),
        class("CLIPTextEncode", "conditioning", encode_text)
            .takes(text("text", "", true))
            .takes(plain("clip", "CLIP"))
            .gives("CONDITIONING")
            .shown_as("CLIP Text Encode (Prompt)"),
        class("CLIPSetLastLayer", "conditioning", pass_clip)
            .takes(plain("clip", "CLIP"))
            .takes(int("stop_at_clip_layer", -1, -24, -1))
            .gives("CLIP"),
        class("EmptyLatentImage", "latent", empty)
            .takes(int("width", 512, 16, 16384))
            .takes(int("height", 512, 16, 16384))
            .takes(int("batch_size", 1, 1, 4096))
            .gives("LATENT")
            .shown_as("Empty Latent Image"),
        class("EmptySD3LatentImage", "latent/sd3", empty)
            .takes(int("width", 1024, 16, 16384))
            .takes(int("height", 1024, 16, 16384))
            .takes(int("batch_size", 1, 1, 4096))
            .gives("LATENT"),
        class("VAEDecode", "latent", decode)
            .takes(plain("samples", "LATENT"))
            .takes(plain("vae", "VAE"))
            .gives("IMAGE")
            .shown_as("VAE Decode"),
        class("VAEEncode", "latent", encode)
            .takes(plain("pixels", "IMAGE"))
            .takes(plain("vae", "VAE"))
            .gives("LATENT")
            .shown_as("VAE Encode"),
        class("SaveLatent", "_for_testing", save)
            .takes(plain("samples", "LATENT"))
            .takes(text("filename_prefix", "latents/ComfyUI", false))
            .saves(),
        class("LoadLatent", "_for_testing", load)
            .takes(file("latent", "latent", &["latent"], None, Shape::List))
            .gives("LATENT"),
    ]
}

/// One latent.
pub(super) fn latent(latent: Latent) -> Produced {
    Produced::one(Datum::Latent(Arc::new(latent)))
}

fn empty(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let side = |name| call.count(name, 512) / 8 * 8;
    Ok(latent(Latent {
        width: side("width"),
        height: side("height"),
        batch: call.count("batch_size", 1),
        seed: 0,
        text: String::new(),
    }))
}

fn encode_text(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Conditioning(call.text("text").into())))
}

fn pass_clip(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced {
        outputs: call.datum("clip").into_iter().collect(),
        ui: None,
        ..Produced::default()
    })
}

fn sample(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let steps = u64::from(call.count("steps", 20));
    sample_in(call, steps).map(latent)
}

/// Samples step by step what the inputs have in common under any sampler's name.
pub(super) fn sample_in(call: &mut Call<'_>, steps: u64) -> Result<Latent, Raised> {
    let from = call.latent("latent_image")?;
    let seed = call.whole("seed") ^ call.whole("noise_seed");
    let text = call.text("positive");
    for step in 1..=steps {
        call.step(step, steps, |longer| {
            let (width, height) = fitted(from.width, from.height, longer);
            Some(Picture::gradient(
                width,
                height,
                seed,
                &format!("{step}/{steps} {text}"),
            ))
        })?;
    }
    Ok(Latent {
        seed,
        text,
        ..(*from).clone()
    })
}

/// Scaled so that the longer side is `longer`.
fn fitted(width: u32, height: u32, longer: u32) -> (u32, u32) {
    let most = width.max(height).max(1);
    (
        (width * longer / most).max(1),
        (height * longer / most).max(1),
    )
}

fn decode(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let latent = call.latent("samples")?;
    let frames = (0..u64::from(latent.batch)).map(|index| {
        Picture::gradient(
            latent.width,
            latent.height,
            latent.seed.wrapping_add(index),
            &latent.text,
        )
    });
    Ok(Produced::one(Datum::Images(Arc::new(frames.collect()))))
}

fn encode(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("pixels")?;
    let (width, height) = images.first().map_or((8, 8), |picture| {
        (picture.width / 8 * 8, picture.height / 8 * 8)
    });
    Ok(latent(Latent {
        width: width.max(8),
        height: height.max(8),
        batch: u32::try_from(images.len()).unwrap_or(1),
        seed: 0,
        text: String::new(),
    }))
}

fn save(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let latent = call.latent("samples")?;
    let mut path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    // A safetensors file: the length of its header, the header, no tensors; what is needed to load
    // it is in the metadata.
    let header = json!({"__metadata__": {"width": latent.width.to_string(),
    "height": latent.height.to_string(), "batch": latent.batch.to_string(),
        "seed": latent.seed.to_string(), "text": latent.text, "prompt": call.current.metadata()}})
    .to_string();
    let content = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    Ok(Produced::shown(
        json!({"latents": [path.write(0, "latent", &content)?]}),
        super::image::passed_on(call, "samples"),
    ))
}

fn load(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let name = call.text("latent");
    let path = call
        .instance
        .folders
        .annotated(&name)
        .ok_or_else(|| Raised::new("ValueError", format!("Invalid latent file: {name}")))?;
    let bytes = std::fs::read(path)?;
    let header: serde_json::Value = bytes
        .get(8..)
        .and_then(|header| serde_json::from_slice(header).ok())
        .unwrap_or_default();
    let field = |name: &str| {
        header
            .pointer(&format!("/__metadata__/{name}"))
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    let number = |name: &str| field(name).parse().unwrap_or(64);
    Ok(latent(Latent {
        width: number("width"),
        height: number("height"),
        batch: number("batch").min(64),
        seed: field("seed").parse().unwrap_or(0),
        text: field("text").to_owned(),
    }))
}
