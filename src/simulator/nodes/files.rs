//! Names of saved files, and the metadata in them.

use std::path::{Path, PathBuf};

use rand::Rng as _;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::{Call, Raised};
use crate::paths::normal;
use crate::simulator::python;

/// Where a node saves.
#[derive(Debug)]
pub struct SavePath {
    directory: PathBuf,
    stem: String,
    subfolder: String,
    kind: &'static str,
    counter: u64,
}

impl SavePath {
    /// Works out the folder and the next number for a prefix, below the output or the temp
    /// directory.
    pub fn new(
        call: &Call<'_>,
        prefix: &str,
        kind: &'static str,
        (width, height): (u32, u32),
    ) -> Result<Self, Raised> {
        let root = normal(if kind == "temp" {
            &call.instance.folders.temp
        } else {
            &call.instance.folders.output
        });
        let prefix = filled(prefix, width, height);
        let path = normal(Path::new(&prefix));
        // Leading `..` are swallowed by normalisation, so the check is on what they would reach.
        let target = normal(&root.join(&prefix));
        // Python's normpath makes a dot of an empty text.
        let (stem, directory) = if prefix.is_empty() {
            (".".to_owned(), root.clone())
        } else {
            let stem = target
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let directory = target.parent().map(Path::to_path_buf);
            (stem.unwrap_or_default(), directory.unwrap_or_default())
        };
        if !directory.starts_with(&root) {
            let shown = directory.display();
            return Err(Raised::new(
                "Exception",
                format!(
                    "**** ERROR: Saving image outside the output folder is not allowed.\n \
                     full_output_folder: {shown}\n         output_dir: {}\n",
                    root.display()
                ),
            ));
        }
        let subfolder = path
            .parent()
            .map(|parent| parent.to_string_lossy().into_owned())
            .unwrap_or_default();
        std::fs::create_dir_all(&directory)?;
        let counter = 1 + highest(&directory, &stem);
        Ok(Self {
            directory,
            stem,
            subfolder,
            kind,
            counter,
        })
    }

    /// For previews: a random name in temp.
    pub fn preview(call: &Call<'_>) -> Result<Self, Raised> {
        let mut rng = rand::rng();
        let letters: String = (0..5)
            .map(|_| char::from(b"abcdefghijklmnopqrstupvxyz"[rng.random_range(0..26)]))
            .collect();
        Self::new(call, &format!("ComfyUI_temp_{letters}"), "temp", (0, 0))
    }

    /// The next file: its path and its description. `batch` is the number within the batch.
    pub fn next(&mut self, batch: usize, extension: &str) -> (PathBuf, Value) {
        let name = format!(
            "{}_{:05}_.{extension}",
            self.stem.replace("%batch_num%", &batch.to_string()),
            self.counter
        );
        self.counter += 1;
        (
            self.directory.join(&name),
            json!({"filename": name, "subfolder": self.subfolder, "type": self.kind}),
        )
    }

    /// Writes the next file.
    pub fn write(
        &mut self,
        batch: usize,
        extension: &str,
        content: &[u8],
    ) -> Result<Value, Raised> {
        let (path, description) = self.next(batch, extension);
        std::fs::write(path, content)?;
        Ok(description)
    }
}

/// The highest number of `stem_NNNNN...` in a directory.
fn highest(directory: &Path, stem: &str) -> u64 {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(stem)?.strip_prefix('_')?;
            Some(
                rest.split('_')
                    .next()
                    .and_then(|digits| digits.parse().ok())
                    .unwrap_or(0),
            )
        })
        .max()
        .unwrap_or(0)
}

/// Replaces the tokens that the server knows.
fn filled(prefix: &str, width: u32, height: u32) -> String {
    if !prefix.contains('%') {
        return prefix.to_owned();
    }
    let now = OffsetDateTime::now_utc();
    [
        ("%width%", width.to_string()),
        ("%height%", height.to_string()),
        ("%year%", now.year().to_string()),
        ("%month%", format!("{:02}", u8::from(now.month()))),
        ("%day%", format!("{:02}", now.day())),
        ("%hour%", format!("{:02}", now.hour())),
        ("%minute%", format!("{:02}", now.minute())),
        ("%second%", format!("{:02}", now.second())),
    ]
    .into_iter()
    .fold(prefix.to_owned(), |text, (token, value)| {
        text.replace(token, &value)
    })
}

/// The text chunks of a picture: the graph and `extra_pnginfo`.
pub fn metadata(call: &Call<'_>) -> Vec<(String, String)> {
    if call.instance.args.disable_metadata {
        return Vec::new();
    }
    let mut texts = vec![("prompt".to_owned(), call.current.metadata().to_owned())];
    for (name, value) in call
        .current
        .extra
        .get("extra_pnginfo")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        texts.push((name.clone(), python::dumps(value)));
    }
    texts
}
