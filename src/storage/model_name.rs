//! Names under which ComfyUI lists models: it goes by their extensions (faults.md, F02).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Fetched;

/// Extensions that ComfyUI and the usual custom nodes list in model folders.
pub const MODEL_EXTENSIONS: [&str; 12] = [
    "safetensors",
    "sft",
    "ckpt",
    "pt",
    "pt2",
    "pth",
    "bin",
    "pkl",
    "gguf",
    "onnx",
    "yaml",
    "yml",
];

/// The extension of a name if it is one of [`MODEL_EXTENSIONS`], as it is written.
pub fn model_extension(name: &str) -> Option<&str> {
    let extension = Path::new(name).extension()?.to_str()?;
    let known = |known: &&str| known.eq_ignore_ascii_case(extension);
    MODEL_EXTENSIONS.iter().any(known).then_some(extension)
}

/// A name for a model under which ComfyUI lists it: the wished one, else the file's own; where it
/// has no extension that ComfyUI knows, the file's is put behind it: that of its own name, of the
/// cached file, or what its first bytes say. Reads a few bytes of the file.
pub async fn model_name(fetched: &Fetched, wished: Option<&str>) -> String {
    let name = wished.unwrap_or(&fetched.origin_name).to_owned();
    if model_extension(&name).is_some() {
        return name;
    }
    let (path, own) = (fetched.path.clone(), fetched.origin_name.clone());
    let extension = tokio::task::spawn_blocking(move || extension_of(&path, &own));
    match extension.await.ok().flatten() {
        Some(extension) => format!("{name}.{extension}"),
        None => name,
    }
}

fn extension_of(path: &Path, own_name: &str) -> Option<String> {
    let cached = path.file_name().and_then(|name| name.to_str());
    let named = model_extension(own_name).or_else(|| model_extension(cached?));
    named.or_else(|| sniffed(path)).map(str::to_owned)
}

fn sniffed(path: &Path) -> Option<&'static str> {
    let mut head = [0; 10];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .ok()?;
    let length = u64::from_le_bytes(head[..8].try_into().ok()?);
    match &head {
        [b'G', b'G', b'U', b'F', ..] => Some("gguf"),
        // A length, then JSON.
        [.., b'{', b'"' | b' ' | b'}'] if length < 100 << 20 => Some("safetensors"),
        // A zip, or a bare pickle.
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => Some("pt"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_in_any_case_and_no_others() {
        for (name, extension) in [
            ("a.safetensors", Some("safetensors")),
            ("sub.d/a.PTH", Some("PTH")),
            ("sd-v1.5", None),
            ("a.zip", None),
            ("safetensors", None),
            (".pt", None),
        ] {
            assert_eq!(model_extension(name), extension, "{name}");
        }
    }
}
