//! What a class declares, and how `/object_info` shows it.

use serde_json::{Map, Value, json};

use super::call::{Call, Produced, Raised};
use crate::simulator::args::Imitate;
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
    /// The class checks itself that the file exists, calling it this, and the list is not enforced.
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

fn pair(kind: Value, options: &Map<String, Value>) -> Value {
    if options.is_empty() {
        json!([kind])
    } else {
        json!([kind, options])
    }
}

/// What a class does.
pub type Run = fn(&mut Call<'_>) -> Result<Produced, Raised>;

/// One class.
#[derive(Debug, Clone)]
pub struct Class {
    /// `class_type`.
    pub name: &'static str,
    /// What a person reads.
    pub display: &'static str,
    /// Where the menu has it.
    pub category: &'static str,
    /// Python module.
    pub module: &'static str,
    /// Inputs, required ones first.
    pub inputs: Vec<Input>,
    /// Types and names of the outputs.
    pub outputs: Vec<(&'static str, &'static str)>,
    /// A run can end here.
    pub output_node: bool,
    /// Written in the newer way.
    pub v3: bool,
    /// Never cached: the change token is always new.
    pub always_changes: bool,
    /// Gets inputs that it does not list, too.
    pub flexible: bool,
    /// What it does.
    pub run: Run,
}

/// Starts the declaration of a class.
pub fn class(name: &'static str, category: &'static str, run: Run) -> Class {
    Class {
        name,
        display: name,
        category,
        module: "nodes",
        inputs: Vec::new(),
        outputs: Vec::new(),
        output_node: false,
        v3: false,
        always_changes: false,
        flexible: false,
        run,
    }
}

impl Class {
    /// Adds an input.
    pub fn takes(mut self, input: Input) -> Self {
        self.inputs.push(input);
        self
    }

    /// Adds an output with its type as its name.
    pub fn gives(self, kind: &'static str) -> Self {
        self.gives_named(kind, kind)
    }

    /// Adds an output.
    pub fn gives_named(mut self, kind: &'static str, name: &'static str) -> Self {
        self.outputs.push((kind, name));
        self
    }

    /// Makes it an output node.
    pub fn saves(mut self) -> Self {
        self.output_node = true;
        self
    }

    /// Names the module; those of `comfy_extras` written in the newer way are `v3`.
    pub fn in_module(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// Marks the newer way.
    pub fn v3(mut self) -> Self {
        self.v3 = true;
        self
    }

    /// Never to be taken from the cache.
    pub fn changing(mut self) -> Self {
        self.always_changes = true;
        self
    }

    /// Takes any other input.
    pub fn flexible(mut self) -> Self {
        self.flexible = true;
        self
    }

    /// What a person reads.
    pub fn shown_as(mut self, display: &'static str) -> Self {
        self.display = display;
        self
    }

    /// The entry of `/object_info`.
    pub fn info(&self, folders: &Folders, imitate: Imitate) -> Value {
        let (mut input, mut order) = (Map::new(), Map::new());
        for (section, required) in [("required", true), ("optional", false)] {
            let own: Vec<&Input> = self
                .inputs
                .iter()
                .filter(|input| input.required == required)
                .collect();
            if required || !own.is_empty() {
                input.insert(
                    section.into(),
                    own.iter()
                        .map(|input| (input.name.to_owned(), input.json(folders)))
                        .collect::<Map<_, _>>()
                        .into(),
                );
                order.insert(section.into(), own.iter().map(|input| input.name).collect());
            }
        }
        if self.output_node {
            input.insert(
                "hidden".into(),
                json!({"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}),
            );
            order.insert("hidden".into(), json!(["prompt", "extra_pnginfo"]));
        }
        let mut info = json!({
            "input": input, "input_order": order,
            "output": self.outputs.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            "output_is_list": vec![false; self.outputs.len()],
            "output_name": self.outputs.iter().map(|(_, name)| *name).collect::<Vec<_>>(),
            "name": self.name, "display_name": self.display, "description": "", "python_module": self.module, "category": self.category,
            "output_node": self.output_node,
        });
        if let Some(info) = info.as_object_mut() {
            if self.v3 {
                info.insert(
                    "output_tooltips".into(),
                    json!(vec![Value::Null; self.outputs.len()]),
                );
                info.insert("deprecated".into(), false.into());
                info.insert("experimental".into(), false.into());
                info.insert("api_node".into(), false.into());
            }
            if imitate == Imitate::Current {
                info.insert("is_input_list".into(), false.into());
                info.insert(
                    "has_intermediate_output".into(),
                    (self.name == "LoadVideo").into(),
                );
                info.insert("search_aliases".into(), json!([]));
            }
        }
        info
    }
}

fn input(name: &'static str, kind: Kind, options: &Value) -> Input {
    Input {
        name,
        required: true,
        kind,
        options: options.as_object().cloned().unwrap_or_default(),
        file: None,
    }
}

impl Input {
    /// May be left out.
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }
}

/// An input without limits.
pub fn plain(name: &'static str, kind: &'static str) -> Input {
    input(name, Kind::Plain(kind), &Value::Null)
}

/// An integer.
pub fn int(name: &'static str, default: i64, min: i64, max: i64) -> Input {
    input(
        name,
        Kind::Plain("INT"),
        &json!({"default": default, "min": min, "max": max}),
    )
}

/// A seed.
pub fn seed(name: &'static str) -> Input {
    input(
        name,
        Kind::Plain("INT"),
        &json!({"default": 0, "min": 0, "max": u64::MAX, "control_after_generate": true}),
    )
}

/// A float; without limits if `max` is not above `min`.
pub fn float(name: &'static str, default: f64, min: f64, max: f64) -> Input {
    let options = if max > min {
        json!({"default": default, "min": min, "max": max, "step": 0.01})
    } else {
        json!({"default": default})
    };
    input(name, Kind::Plain("FLOAT"), &options)
}

/// A text.
pub fn text(name: &'static str, default: &'static str, multiline: bool) -> Input {
    input(
        name,
        Kind::Plain("STRING"),
        &if multiline {
            json!({"default": default, "multiline": true, "dynamicPrompts": true})
        } else {
            json!({"default": default})
        },
    )
}

/// A switch.
pub fn boolean(name: &'static str, default: bool) -> Input {
    input(name, Kind::Plain("BOOLEAN"), &json!({"default": default}))
}

/// One of fixed words.
pub fn choice(name: &'static str, words: &'static [&'static str], shape: Shape) -> Input {
    let options = words
        .first()
        .filter(|_| shape == Shape::Combo)
        .map_or(Value::Null, |first| json!({"default": first}));
    input(name, Kind::Combo(Source::Fixed(words), shape), &options)
}

/// A file of model folders.
pub fn model(
    name: &'static str,
    folders: &'static [&'static str],
    extra: &'static [&'static str],
    shape: Shape,
) -> Input {
    input(
        name,
        Kind::Combo(Source::Models(folders, extra), shape),
        &json!({"tooltip": "The name of the model to load."}),
    )
}

/// Some files of a model folder, in a form of the class's own.
pub fn shown(
    name: &'static str,
    extra: &'static [&'static str],
    folder: &'static str,
    form: fn(&str) -> Option<String>,
) -> Input {
    let source = Source::Shown(extra, folder, form);
    input(name, Kind::Combo(source, Shape::List), &Value::Null)
}

/// A widget of its own kind.
pub fn widget(name: &'static str, kind: &'static str) -> Input {
    input(name, Kind::Plain(kind), &json!({}))
}

/// A file of the input directory: what it is called in errors, its extensions, and its upload flag.
pub fn file(
    name: &'static str,
    what: &'static str,
    extensions: &'static [&'static str],
    flag: Option<&'static str>,
    shape: Shape,
) -> Input {
    let options = flag.map_or(Value::Null, |flag| json!({ flag: true }));
    Input {
        file: Some(what),
        ..input(
            name,
            Kind::Combo(Source::InputFiles(extensions), shape),
            &options,
        )
    }
}

/// A file of the output directory.
pub fn output_file(name: &'static str) -> Input {
    let options = json!({"image_upload": true, "image_folder": "output", "remote": {"route": "/internal/files/output", "refresh_button": true, "control_after_refresh": "first"}});
    Input {
        file: Some("image"),
        ..input(
            name,
            Kind::Combo(Source::OutputFiles, Shape::Combo),
            &options,
        )
    }
}

/// A sub-directory of the input directory.
pub fn directory(name: &'static str) -> Input {
    input(
        name,
        Kind::Combo(Source::InputDirectories, Shape::List),
        &Value::Null,
    )
}
