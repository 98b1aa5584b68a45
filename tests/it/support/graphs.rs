//! Small graphs and small files for tests.

use base64::Engine as _;
use serde_json::{Value, json};

/// A picture of one colour, saved under a prefix.
pub fn picture(prefix: &str) -> Value {
    coloured(prefix, 0)
}

/// A picture of a chosen colour (`0xRRGGBB`).
pub fn coloured(prefix: &str, colour: u32) -> Value {
    json!({"1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": colour}
    },
           "9": {
               "class_type": "SaveImage",
               "inputs": {"images": ["1", 0], "filename_prefix": prefix}
           }})
}

/// Some nodes more.
pub fn with(mut graph: Value, nodes: Value) -> Value {
    graph
        .as_object_mut()
        .unwrap()
        .extend(nodes.as_object().unwrap().clone());
    graph
}

/// A picture, and a node that takes its time in steps; in no step at all it cannot be interrupted.
/// Its prefix, which it does not know, says that it writes nothing under a name of others (F04), so
/// that the graph does not wait for its like.
pub fn slow(seconds: f64, steps: u32) -> Value {
    with(
        picture("slow"),
        json!({
            "5": {
                "class_type": "SimSleep",
                "inputs": {"seconds": seconds, "steps": steps, "filename_prefix": "slow"}
            }
        }),
    )
}

/// A picture that is loaded and saved again.
pub fn loaded(image: &str) -> Value {
    json!({"1": {"class_type": "LoadImage", "inputs": {"image": image}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}
    }})
}

/// Sampling in steps.
pub fn sampling(steps: u32) -> Value {
    batch(steps, 1, "sampled")
}

/// Sampling of so many pictures at once.
pub fn batch(steps: u32, size: u32, prefix: &str) -> Value {
    json!({"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": size}
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 1]}},
    "3": {"class_type": "KSampler",
    "inputs": {"seed": 5, "steps": steps, "cfg": 7, "sampler_name": "euler", "scheduler": "normal",
    "denoise": 1,
          "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": prefix}
    }})
}

/// A picture file of one colour.
pub fn encoded(colour: [u8; 3], format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(16, 16, image::Rgb(colour))
        .write_to(&mut bytes, format)
        .unwrap();
    bytes.into_inner()
}

/// A PNG of one colour.
pub fn png(colour: [u8; 3]) -> Vec<u8> {
    encoded(colour, image::ImageFormat::Png)
}

/// The colour in the middle of a picture in base64, as answers hold it.
pub fn colour_of(base64: &Value) -> [u8; 3] {
    let picture = image::load_from_memory(&from_base64(base64))
        .unwrap()
        .to_rgb8();
    picture
        .get_pixel(picture.width() / 2, picture.height() / 2)
        .0
}

/// Standard base64.
pub fn to_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes of a base64 string.
pub fn from_base64(text: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(
            text.as_str()
                .unwrap_or_else(|| panic!("not a string: {text}")),
        )
        .unwrap()
}
