//! Sampling in parts, as newer graphs do it, and what LTX-Video adds to it.

use std::sync::Arc;

use serde_json::json;

use super::call::{Call, Datum, Latent, Produced, Raised};
use super::sampling::{SAMPLERS, latent, sample_in};
use super::spec::{Class, Shape, boolean, choice, class, float, int, plain, seed};

/// The classes of this file.
pub fn classes() -> Vec<Class> {
    vec![
        class(
            "KSamplerSelect",
            "sampling/custom_sampling/samplers",
            select,
        )
        .takes(choice("sampler_name", SAMPLERS, Shape::Combo))
        .gives("SAMPLER")
        .v3(),
        class("SamplerCustom", "sampling/custom_sampling", sample)
            .takes(plain("model", "MODEL"))
            .takes(boolean("add_noise", true))
            .takes(seed("noise_seed"))
            .takes(float("cfg", 8.0, 0.0, 100.0))
            .takes(plain("positive", "CONDITIONING"))
            .takes(plain("negative", "CONDITIONING"))
            .takes(plain("sampler", "SAMPLER"))
            .takes(plain("sigmas", "SIGMAS"))
            .takes(plain("latent_image", "LATENT"))
            .gives_named("LATENT", "output")
            .gives_named("LATENT", "denoised_output")
            .v3(),
        class("SetLatentNoiseMask", "latent/inpaint", pass_latent)
            .takes(plain("samples", "LATENT"))
            .takes(plain("mask", "MASK"))
            .gives("LATENT"),
        class("EmptyLTXVLatentVideo", "latent/video/ltxv", empty_video)
            .takes(int("width", 768, 64, 16384))
            .takes(int("height", 512, 64, 16384))
            .takes(int("length", 97, 1, 16384))
            .takes(int("batch_size", 1, 1, 4096))
            .gives("LATENT")
            .v3(),
        class(
            "LTXVConditioning",
            "conditioning/video_models",
            conditioning,
        )
        .takes(plain("positive", "CONDITIONING"))
        .takes(plain("negative", "CONDITIONING"))
        .takes(float("frame_rate", 25.0, 0.0, 1000.0))
        .gives_named("CONDITIONING", "positive")
        .gives_named("CONDITIONING", "negative")
        .v3(),
        class(
            "LTXVScheduler",
            "sampling/custom_sampling/schedulers",
            sigmas,
        )
        .takes(int("steps", 20, 1, 10000))
        .takes(float("max_shift", 2.05, 0.0, 100.0))
        .takes(float("base_shift", 0.95, 0.0, 100.0))
        .takes(boolean("stretch", true))
        .takes(float("terminal", 0.1, 0.0, 0.99))
        .takes(plain("latent", "LATENT").optional())
        .gives("SIGMAS")
        .v3(),
    ]
}

fn select(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Opaque(
        "SAMPLER",
        call.text("sampler_name").into(),
    )))
}

/// Sigmas are as many numbers as there are steps; nobody looks at more than their count.
fn sigmas(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Json(json!(call.count("steps", 20)))))
}

fn sample(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let steps = match call.datum("sigmas") {
        Some(Datum::Json(steps)) => steps.as_u64().unwrap_or(20),
        _ => 20,
    };
    let sampled = Arc::new(sample_in(call, steps)?);
    Ok(Produced {
        outputs: vec![Datum::Latent(sampled.clone()), Datum::Latent(sampled)],
        ui: None,
        ..Produced::default()
    })
}

fn pass_latent(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(latent((*call.latent("samples")?).clone()))
}

/// A latent of a video holds one picture for eight frames; here it is told apart by its batch, one
/// picture per frame.
fn empty_video(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let side = |name| call.count(name, 512) / 32 * 32;
    let frames = (call.count("length", 97).saturating_sub(1)) / 8 * 8 + 1;
    Ok(latent(Latent {
        width: side("width"),
        height: side("height"),
        batch: frames * call.count("batch_size", 1),
        seed: 0,
        text: String::new(),
    }))
}

fn conditioning(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced {
        outputs: ["positive", "negative"]
            .iter()
            .filter_map(|name| call.datum(name))
            .collect(),
        ui: None,
        ..Produced::default()
    })
}
