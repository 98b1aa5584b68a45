//! An input of a class.

use serde_json::{Map, Value, json};

use crate::simulator::folders::{Folders, files_below};

/// How a combo is written in `/object_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[[options], {...}]`.
    List,
    /// `["COMBO", {"options": [...], ...}]`.
    Combo,
}

/// Where the options of a combo come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Always the same.
    Fixed(&'static [&'static str]),
    /// Files of model folders, with fixed options around them.
    Models(&'static [&'static str], &'static [&'static str]),
    /// Fixed options, then those files of a model folder that the function shows, in its form.
    Shown(
        &'static [&'static str],
        &'static str,
        fn(&str) -> Option<String>,
    ),
    /// Files of the top level of the input directory with one of these extensions (none = all).
    InputFiles(&'static [&'static str]),
    /// Files of the output directory.
    OutputFiles,
    /// Sub-directories of the input directory.
    InputDirectories,
}

/// The type of an input.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `INT`, `IMAGE`, ...
    Plain(&'static str),
    /// One of several.
    Combo(Source, Shape),
}

/// One input.
#[derive(Debug, Clone)]
pub struct Input {
    /// The name.
    pub name: &'static str,
    /// Missing is an error.
    pub required: bool,
    /// The type.
    pub kind: Kind,
    /// The second element of the specification.
    pub options: Map<String, Value>,
    /// The class checks itself that the file exists, calling it this, and the list is not
    /// enforced.
    pub file: Option<&'static str>,
}

impl Input {
    /// The options of a combo, as they are now.
    pub fn choices(&self, folders: &Folders) -> Option<Vec<String>> {
        let Kind::Combo(source, _) = &self.kind else {
            return None;
        };
        Some(match source {
            Source::Fixed(names) => names.iter().map(|name| (*name).to_owned()).collect(),
            Source::Models(places, extra) => places
                .iter()
                .flat_map(|place| folders.list(place))
                .chain(extra.iter().map(|name| (*name).to_owned()))
                .collect(),
            Source::Shown(extra, folder, shown) => {
                let files = folders.list(folder);
                let extra = extra.iter().map(|name| (*name).to_owned());
                extra
                    .chain(files.iter().filter_map(|name| shown(name)))
                    .collect()
            }
            Source::InputFiles(extensions) => {
                let mut names: Vec<String> = std::fs::read_dir(&folders.input)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| entry.path().is_file())
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect();
                names.retain(|name| {
                    extensions.is_empty()
                        || name.rsplit_once('.').is_some_and(|(_, e)| {
                            extensions.contains(&e.to_ascii_lowercase().as_str())
                        })
                });
                names.sort();
                names
            }
            Source::OutputFiles => {
                let mut names = files_below(&folders.output);
                names.sort();
                names
            }
            Source::InputDirectories => {
                let mut names: Vec<String> = std::fs::read_dir(&folders.input)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| entry.path().is_dir())
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect();
                names.sort();
                names
            }
        })
    }

    /// Its options are files of model folders.
    pub fn is_model(&self) -> bool {
        matches!(
            self.kind,
            Kind::Combo(Source::Models(..) | Source::Shown(..), _)
        )
    }

    /// The specification, as `/object_info` and `input_config` show it.
    pub fn json(&self, folders: &Folders) -> Value {
        match (&self.kind, self.choices(folders)) {
            (Kind::Combo(_, Shape::Combo), Some(choices)) => {
                let mut options = self.options.clone();
                options.insert("multiselect".into(), false.into());
                options.insert("options".into(), choices.into());
                json!(["COMBO", options])
            }
            (Kind::Combo(..), choices) => pair(json!(choices.unwrap_or_default()), &self.options),
            (Kind::Plain(name), _) => pair(json!(name), &self.options),
        }
    }

    /// The type as `input_config` and messages name it.
    pub fn type_name(&self) -> &str {
        match self.kind {
            Kind::Plain(name) => name,
            Kind::Combo(..) => "COMBO",
        }
    }
}

impl Input {
    /// May be left out.
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }
}

fn pair(kind: Value, options: &Map<String, Value>) -> Value {
    if options.is_empty() {
        json!([kind])
    } else {
        json!([kind, options])
    }
}
