//! Which model folder an input takes its file from: the core classes of ComfyUI (comfyui.md,
//! section 6).
//!
//! Keyed by class *and* input: `clip_name` is a text encoder in CLIPLoader and a vision model in
//! CLIPVisionLoader.

/// `(class, input, folder)`
const CORE: &[(&str, &str, &str)] = &[
    ("CheckpointLoaderSimple", "ckpt_name", "checkpoints"),
    ("CheckpointLoader", "ckpt_name", "checkpoints"),
    ("CheckpointLoader", "config_name", "configs"),
    ("unCLIPCheckpointLoader", "ckpt_name", "checkpoints"),
    ("ImageOnlyCheckpointLoader", "ckpt_name", "checkpoints"),
    ("CreateHookModelAsLora", "ckpt_name", "checkpoints"),
    ("CreateHookModelAsLoraModelOnly", "ckpt_name", "checkpoints"),
    ("LoraLoader", "lora_name", "loras"),
    ("LoraLoaderModelOnly", "lora_name", "loras"),
    ("CreateHookLora", "lora_name", "loras"),
    ("CreateHookLoraModelOnly", "lora_name", "loras"),
    ("TrainLoraNode", "existing_lora", "loras"),
    ("VAELoader", "vae_name", "vae"),
    ("UNETLoader", "unet_name", "diffusion_models"),
    ("CLIPLoader", "clip_name", "text_encoders"),
    ("DualCLIPLoader", "clip_name1", "text_encoders"),
    ("DualCLIPLoader", "clip_name2", "text_encoders"),
    ("TripleCLIPLoader", "clip_name1", "text_encoders"),
    ("TripleCLIPLoader", "clip_name2", "text_encoders"),
    ("TripleCLIPLoader", "clip_name3", "text_encoders"),
    ("QuadrupleCLIPLoader", "clip_name1", "text_encoders"),
    ("QuadrupleCLIPLoader", "clip_name2", "text_encoders"),
    ("QuadrupleCLIPLoader", "clip_name3", "text_encoders"),
    ("QuadrupleCLIPLoader", "clip_name4", "text_encoders"),
    ("CLIPVisionLoader", "clip_name", "clip_vision"),
    ("StyleModelLoader", "style_model_name", "style_models"),
    ("ControlNetLoader", "control_net_name", "controlnet"),
    ("DiffControlNetLoader", "control_net_name", "controlnet"),
    ("GLIGENLoader", "gligen_name", "gligen"),
    ("UpscaleModelLoader", "model_name", "upscale_models"),
    ("HypernetworkLoader", "hypernetwork_name", "hypernetworks"),
    ("PhotoMakerLoader", "photomaker_model_name", "photomaker"),
    ("ModelPatchLoader", "name", "model_patches"),
    ("AudioEncoderLoader", "audio_encoder_name", "audio_encoders"),
    (
        "LatentUpscaleModelLoader",
        "model_name",
        "latent_upscale_models",
    ),
    ("LTXVAudioVAELoader", "ckpt_name", "vae"),
    ("LTXAVTextEncoderLoader", "text_encoder", "text_encoders"),
    ("LTXAVTextEncoderLoader", "ckpt_name", "checkpoints"),
    ("LoadLoraModel", "lora_name", "loras"),
    ("LoadLoraTextEncoder", "lora_name", "loras"),
    (
        "LoadBackgroundRemovalModel",
        "bg_removal_name",
        "background_removal",
    ),
    (
        "FrameInterpolationModelLoader",
        "model_name",
        "frame_interpolation",
    ),
    ("LoadMoGeModel", "model_name", "geometry_estimation"),
    ("LoadDA3Model", "model_name", "geometry_estimation"),
    ("OpticalFlowLoader", "model_name", "optical_flow"),
];

/// The folder of an input of a core class. Inputs of dynamic groups have dotted names
/// (`loras.0.lora_name`): the last part counts.
pub fn core_folder(class: &str, input: &str) -> Option<&'static str> {
    let last = input.rsplit('.').next().unwrap_or(input);
    CORE.iter()
        .find(|(c, i, _)| *c == class && (*i == input || *i == last))
        .map(|(_, _, folder)| *folder)
}

/// The folder of a model by the name of the input or key that holds it, with or without a number
/// behind it: for what no class describes (F30, F31).
pub fn folder_of_key(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let key = key.trim_end_matches(|char: char| char.is_ascii_digit());
    Some(match key.trim_end_matches(['_', '-', ' ']) {
        "lora" | "lora_name" => "loras",
        "ckpt" | "ckpt_name" | "checkpoint" => "checkpoints",
        "vae" | "vae_name" => "vae",
        "unet_name" | "diffusion_model" => "diffusion_models",
        "clip_name" | "text_encoder" => "text_encoders",
        "control_net_name" => "controlnet",
        "upscale_model" | "upscale_model_name" => "upscale_models",
        _ => return None,
    })
}

/// The folders that the table names, for a ComfyUI that cannot be asked.
pub fn core_folders() -> Vec<&'static str> {
    let mut folders: Vec<_> = CORE
        .iter()
        .map(|(_, _, folder)| *folder)
        .chain(["embeddings", "diffusers", "vae_approx"])
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}
