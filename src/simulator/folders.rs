//! Directories: model folders and their listings, input, output and temp.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;

use super::args::{Args, Imitate};
use super::listings::Listings;
use crate::paths::normal;

/// Which names a folder lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// The usual model extensions.
    Models,
    /// `.yaml` only.
    Yaml,
    /// Font files.
    Fonts,
    /// Only files without an extension.
    Bare,
    /// Everything.
    Any,
    /// Directories.
    Directories,
}

/// One model folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The name, such as `loras`.
    pub name: String,
    /// Where it is looked for, in this order.
    pub directories: Vec<PathBuf>,
    /// What it lists.
    pub accepts: Accepts,
}

/// All directories of an instance.
#[derive(Debug)]
pub struct Folders {
    /// Where file inputs are.
    pub input: PathBuf,
    /// Where results go.
    pub output: PathBuf,
    /// Where previews go; removed at a clean end.
    pub temp: PathBuf,
    models: RwLock<Vec<Folder>>,
    listings: Listings,
}

const TABLE: [(&str, &[&str], Accepts); 20] = [
    (
        "checkpoints",
        &["models/checkpoints", "output/checkpoints"],
        Accepts::Models,
    ),
    ("configs", &["models/configs"], Accepts::Yaml),
    ("loras", &["models/loras", "output/loras"], Accepts::Models),
    ("vae", &["models/vae", "output/vae"], Accepts::Models),
    (
        "text_encoders",
        &["models/text_encoders", "models/clip", "output/clip"],
        Accepts::Models,
    ),
    (
        "diffusion_models",
        &[
            "models/unet",
            "models/diffusion_models",
            "output/diffusion_models",
        ],
        Accepts::Models,
    ),
    ("clip_vision", &["models/clip_vision"], Accepts::Models),
    ("style_models", &["models/style_models"], Accepts::Models),
    ("embeddings", &["models/embeddings"], Accepts::Models),
    ("diffusers", &["models/diffusers"], Accepts::Directories),
    ("vae_approx", &["models/vae_approx"], Accepts::Models),
    (
        "controlnet",
        &["models/controlnet", "models/t2i_adapter"],
        Accepts::Models,
    ),
    ("gligen", &["models/gligen"], Accepts::Models),
    (
        "upscale_models",
        &["models/upscale_models"],
        Accepts::Models,
    ),
    ("custom_nodes", &["custom_nodes"], Accepts::Any),
    ("hypernetworks", &["models/hypernetworks"], Accepts::Models),
    ("photomaker", &["models/photomaker"], Accepts::Models),
    ("classifiers", &["models/classifiers"], Accepts::Bare),
    ("model_patches", &["models/model_patches"], Accepts::Models),
    (
        "audio_encoders",
        &["models/audio_encoders"],
        Accepts::Models,
    ),
];

const NEWER: [(&str, &[&str], Accepts); 8] = [
    (
        "latent_upscale_models",
        &["models/latent_upscale_models"],
        Accepts::Models,
    ),
    (
        "background_removal",
        &["models/background_removal"],
        Accepts::Models,
    ),
    (
        "frame_interpolation",
        &["models/frame_interpolation"],
        Accepts::Models,
    ),
    (
        "geometry_estimation",
        &["models/geometry_estimation"],
        Accepts::Models,
    ),
    ("optical_flow", &["models/optical_flow"], Accepts::Models),
    ("detection", &["models/detection"], Accepts::Models),
    ("datasets", &["datasets"], Accepts::Any),
    ("fonts", &["fonts"], Accepts::Fonts),
];

/// A folder as a custom node registers one; `SimStyleLoader` lists it.
const CUSTOM: (&str, &[&str], Accepts) = (
    "simulator_styles",
    &["models/simulator_styles"],
    Accepts::Models,
);

const MODEL_EXTENSIONS: [&str; 8] = [
    "ckpt",
    "pt",
    "pt2",
    "bin",
    "pth",
    "safetensors",
    "pkl",
    "sft",
];

/// The first directory of each folder, and those that lie among the models.
fn make_model_folders(folders: &[Folder], models_base: &Path) -> io::Result<()> {
    for folder in folders {
        if let Some(first) = folder.directories.first() {
            std::fs::create_dir_all(first)?;
        }
        for more in folder
            .directories
            .iter()
            .skip(1)
            .filter(|more| more.starts_with(models_base))
        {
            std::fs::create_dir_all(more)?;
        }
    }
    Ok(())
}

impl Folders {
    /// Makes the directories; temp is emptied.
    pub fn prepare(args: &Args) -> io::Result<Self> {
        let base = std::path::absolute(
            args.base_directory
                .clone()
                .unwrap_or_else(|| PathBuf::from(".")),
        )?;
        let within = |own: &Option<PathBuf>, name: &str| {
            own.as_ref()
                .map_or_else(|| Ok(base.join(name)), std::path::absolute)
        };
        let input = within(&args.input_directory, "input")?;
        let output = within(&args.output_directory, "output")?;
        let temp = args
            .temp_directory
            .as_ref()
            .map_or_else(|| Ok(base.clone()), std::path::absolute)?
            .join("temp");
        let models_base = within(&args.models_directory, "models")?;
        let newer = if args.imitated() == Imitate::Current {
            &NEWER[..]
        } else {
            &[]
        };
        let folders = TABLE
            .iter()
            .chain(newer)
            .chain([&CUSTOM])
            .map(|(name, places, accepts)| Folder {
                name: (*name).to_owned(),
                directories: places
                    .iter()
                    .map(|place| {
                        match (place.strip_prefix("models/"), place.strip_prefix("output/")) {
                            (Some(rest), _) => models_base.join(rest),
                            (_, Some(rest)) => output.join(rest),
                            _ => base.join(place),
                        }
                    })
                    .collect(),
                accepts: *accepts,
            });
        let mut folders: Vec<Folder> = folders.collect();
        if temp.exists() {
            std::fs::remove_dir_all(&temp)?;
        }
        for directory in [&input, &output, &temp, &base.join("custom_nodes")] {
            std::fs::create_dir_all(directory)?;
        }
        make_model_folders(&folders, &models_base)?;
        // These are somebody else's to make.
        for file in &args.extra_model_paths_config {
            add_extra_paths(&mut folders, file)?;
        }
        Ok(Self {
            input,
            output,
            temp,
            models: RwLock::new(folders),
            listings: Listings::default(),
        })
    }

    /// The model folders, in ComfyUI's order.
    pub fn models(&self) -> Vec<Folder> {
        self.models.read().clone()
    }

    /// One model folder by its present name.
    pub fn model_folder(&self, name: &str) -> Option<Folder> {
        self.models
            .read()
            .iter()
            .find(|folder| folder.name == name)
            .cloned()
    }

    /// Relative names in a model folder, sorted. Empty for an unknown one. A list is made anew when
    /// a directory's modification time is another than when it was made.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Some(folder) = self.model_folder(name) else {
            return Vec::new();
        };
        match folder.accepts {
            Accepts::Directories => {
                let below = folder.directories.iter().flat_map(|dir| files_below(dir));
                let named = below
                    .filter_map(|name| Some(name.strip_suffix("/model_index.json")?.to_owned()));
                named.collect::<BTreeSet<_>>().into_iter().collect()
            }
            accepts => self.listings.list(&folder, |name| accepted(accepts, name)),
        }
    }

    /// How coarse the clock of the file system seems to be; 0 is as it is.
    pub fn set_tick(&self, milliseconds: u64) {
        self.listings.set_tick(milliseconds);
    }

    /// The first file of that relative name in a model folder.
    pub fn find_model(&self, folder: &str, name: &str) -> Option<PathBuf> {
        self.model_folder(folder)?
            .directories
            .iter()
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
    }

    /// The directory of a `type` field.
    pub fn by_type(&self, kind: &str) -> Option<&Path> {
        match kind {
            "input" => Some(&self.input),
            "output" => Some(&self.output),
            "temp" => Some(&self.temp),
            _ => None,
        }
    }

    /// The path of a file input such as `a/b.png [output]`; `None` if it would leave its directory.
    pub fn annotated(&self, value: &str) -> Option<PathBuf> {
        let (name, directory) = [
            (" [output]", &self.output),
            (" [input]", &self.input),
            (" [temp]", &self.temp),
        ]
        .into_iter()
        .find_map(|(suffix, directory)| Some((value.strip_suffix(suffix)?, directory)))
        .unwrap_or((value, &self.input));
        let path = normal(&directory.join(name));
        path.starts_with(normal(directory)).then_some(path)
    }
}

fn accepted(accepts: Accepts, name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    match (accepts, extension.as_deref()) {
        (Accepts::Models, Some(extension)) => MODEL_EXTENSIONS.contains(&extension),
        (Accepts::Yaml, extension) => extension == Some("yaml"),
        (Accepts::Fonts, extension) => matches!(extension, Some("ttf" | "otf")),
        (Accepts::Bare, extension) => extension.is_none(),
        (Accepts::Any | Accepts::Directories, _) => true,
        (Accepts::Models, None) => false,
    }
}

/// Relative names of the files below a directory, links followed, `/` between parts, unsorted.
pub fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![(directory.to_path_buf(), String::new(), 0)];
    while let Some((path, prefix, depth)) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&path) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let relative = format!("{prefix}{name}");
            // A dangling link is listed as a file, as os.walk does.
            if entry.path().is_dir() {
                if name != ".git" && depth < 32 {
                    pending.push((entry.path(), relative + "/", depth + 1));
                }
            } else {
                found.push(relative);
            }
        }
    }
    found
}

/// Reads one `extra_model_paths.yaml`.
fn add_extra_paths(folders: &mut Vec<Folder>, file: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let groups: serde_json::Value = serde_saphyr::from_str(&text)
        .map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
    let file = std::path::absolute(file)?;
    let beside = file.parent().unwrap_or(Path::new("/"));
    for group in groups
        .as_object()
        .into_iter()
        .flat_map(|groups| groups.values())
        .filter_map(serde_json::Value::as_object)
    {
        let base = group
            .get("base_path")
            .and_then(serde_json::Value::as_str)
            .map_or_else(|| beside.to_path_buf(), |base| beside.join(base));
        let default = group
            .get("is_default")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        for (name, paths) in group
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "base_path" | "is_default"))
        {
            let name = match name.as_str() {
                "unet" => "diffusion_models",
                "clip" => "text_encoders",
                name => name,
            };
            for path in paths
                .as_str()
                .unwrap_or_default()
                .split(['|', '\n'])
                .map(str::trim)
                .filter(|path| !path.is_empty())
            {
                let path = normal(&base.join(path));
                eprintln!("Adding extra search path {name} {}", path.display());
                match folders.iter_mut().find(|folder| folder.name == name) {
                    Some(folder) if default => folder.directories.insert(0, path),
                    Some(folder) => folder.directories.push(path),
                    None => folders.push(Folder {
                        name: name.to_owned(),
                        directories: vec![path],
                        accepts: Accepts::Any,
                    }),
                }
            }
        }
    }
    Ok(())
}
