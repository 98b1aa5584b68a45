//! Which inputs of a graph are to be worked on: media, folders of media, models; also models in
//! objects and lists (F30).

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Form, Input, InputTask, ModelWork, Work, directory, inputs, media};
use crate::comfy::catalogue::Catalogue;
use crate::comfy::input_kind::InputKind;
use crate::comfy::model_inputs::folder_of_key;
use crate::config::public_url;
use crate::storage::{Storage, model_extension};

/// Objects and lists in inputs are looked into so deep.
const DEEPEST: usize = 64;
/// Warnings about URLs that were left alone, at most.
const MOST_WARNINGS: usize = 10;
/// ComfyUI's wrapper around a list that is a value and not a link.
pub(super) const WRAPPER: &str = "__value__";

/// What there is to do.
#[derive(Default)]
pub(super) struct Found {
    pub tasks: Vec<InputTask>,
    pub warnings: Vec<String>,
}

/// Finds it. The values are no longer in the graph then.
pub(super) fn tasks(graph: &mut Map<String, Value>, catalogue: &Catalogue) -> Found {
    tasks_and(graph, catalogue, &|_| false)
}

/// Likewise, and files of the job's origin (`owned` addresses), in whatever input they are.
pub(super) fn tasks_and(
    graph: &mut Map<String, Value>,
    catalogue: &Catalogue,
    owned: &dyn Fn(&str) -> bool,
) -> Found {
    let mut found = Found::default();
    for input in inputs(graph) {
        let whole = input.value.as_str().is_some_and(owned);
        if whole && !media::is_directory(input.class, input.name) {
            found.add(&input, Vec::new(), Work::Media);
            continue;
        }
        if let Some(work) = work_for(&input, catalogue) {
            found.add(&input, Vec::new(), work);
            continue;
        }
        each_text(&input, &mut |leaf| {
            if leaf.value.as_str().is_some_and(owned) {
                let inner = leaf.path.iter().map(ToString::to_string).collect();
                found.add(&input, inner, Work::Media);
            } else {
                found.look_at(&input, leaf, catalogue);
            }
        });
    }
    for task in &mut found.tasks {
        let Some(place) = task.place_in(graph) else {
            continue;
        };
        let mut value = place.take();
        let list = value.get_mut(WRAPPER).map(Value::take);
        task.wrapped = list.is_some();
        task.value = Arc::new(list.unwrap_or(value));
    }
    found
}

impl Found {
    fn add(&mut self, input: &Input<'_>, inner: Vec<String>, work: Work) {
        let index = self.tasks.len();
        self.tasks.push(InputTask {
            node: input.node.to_owned(),
            input: input.name.to_owned(),
            inner,
            class: input.class.to_owned(),
            value: Arc::default(),
            wrapped: false,
            work,
            index,
        });
    }

    /// A text that no rule of its input's covers.
    fn look_at(&mut self, input: &Input<'_>, leaf: &Leaf<'_, '_>, catalogue: &Catalogue) {
        let Some(url) = leaf.value.as_str().filter(|text| Storage::is_url(text)) else {
            return;
        };
        let kind = catalogue.kind(input.class, input.name);
        let nested = !leaf.path.is_empty();
        // By its name alone an input is a model's only if its class does not say that it is
        // something else.
        let named = nested || matches!(kind, None | Some(InputKind::Choice));
        let model = leaf
            .model()
            .filter(|(folder, _)| named && catalogue.folders.contains_key(*folder));
        if let Some((folder, form)) = model {
            let form = match kind {
                Some(InputKind::Choice) if !nested => Form::Listed,
                _ => form,
            };
            let folder = folder.to_owned();
            let inner = leaf.path.iter().map(ToString::to_string).collect();
            self.add(input, inner, Work::Model(ModelWork { folder, form }));
            return;
        }
        let is_text = kind == Some(InputKind::Text) && !nested;
        if !is_text && is_model_url(url) && self.warnings.len() < MOST_WARNINGS {
            let shown: String = public_url(url).chars().take(200).collect();
            let inner: String = leaf.path.iter().map(|part| format!(".{part}")).collect();
            self.warnings.push(format!(
                "prompt.{}.inputs.{}{inner}: {shown} was left as it is, because nothing says \
                 which model folder it is for",
                input.node, input.name
            ));
        }
    }
}

fn work_for(input: &Input<'_>, catalogue: &Catalogue) -> Option<Work> {
    let Input {
        class, name, value, ..
    } = *input;
    let listed = directory::is_media_list(value);
    if media::is_directory(class, name) && (value.is_string() || listed) {
        return Some(Work::Directory);
    }
    let is_text = catalogue.kind(class, name) == Some(InputKind::Text);
    if is_text && directory::is_folder_name(name) && (value.is_string() || listed) {
        return Some(Work::Folder);
    }
    let text = value.as_str()?;
    if class == "DiffusersLoader" && name == "model_path" && Storage::is_url(text) {
        return Some(Work::Repository);
    }
    if media::is_media(class, name, catalogue) {
        return Some(Work::Media);
    }
    // A URL in an input that is neither media nor model is left alone: it is a prompt text, a
    // webhook...
    let folder = Storage::is_url(text)
        .then(|| catalogue.model_folder(class, name))
        .flatten()?;
    let form = if catalogue.lists_plainly(class, name) {
        Form::Name
    } else {
        Form::Listed
    };
    let folder = folder.to_owned();
    Some(Work::Model(ModelWork { folder, form }))
}

/// A URL whose path ends like a model file.
fn is_model_url(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else {
        return false;
    };
    let extension = model_extension(url.path()).unwrap_or_default();
    !extension.is_empty() && !extension.to_ascii_lowercase().starts_with('y')
}

/// A part of the way to a value inside an input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Key(&'a str),
    Place(usize),
}

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Place(place) => write!(f, "{place}"),
        }
    }
}

/// A text in an input, or somewhere inside of it.
pub(super) struct Leaf<'w, 'a> {
    pub path: &'w [Part<'a>],
    pub value: &'a Value,
    /// The nearest key above, or the input's own name.
    key: &'a str,
    /// It is in an input called `loras`, as Lora Manager has them.
    in_loras: bool,
}

impl Leaf<'_, '_> {
    /// The model folder that the key names, and the form that goes with it.
    pub fn model(&self) -> Option<(&'static str, Form)> {
        if self.in_loras && self.key.eq_ignore_ascii_case("name") {
            return Some(("loras", Form::Stem));
        }
        folder_of_key(self.key).map(|folder| (folder, Form::Name))
    }
}

/// Shows every text of an input. Entries that are switched off have none; a link has none.
pub(super) fn each_text<'a>(input: &Input<'a>, visit: &mut dyn FnMut(&Leaf<'_, 'a>)) {
    let mut walk = Walk {
        path: Vec::new(),
        in_loras: input.name.eq_ignore_ascii_case("loras"),
        visit,
    };
    if !is_link(input.value) {
        walk.walk(input.value, input.name);
    }
}

/// ComfyUI takes a list of a node's id and a number for a link.
fn is_link(value: &Value) -> bool {
    matches!(
        value.as_array().map(Vec::as_slice),
        Some([Value::String(_), Value::Number(_)])
    )
}

struct Walk<'v, 'a> {
    path: Vec<Part<'a>>,
    in_loras: bool,
    visit: &'v mut dyn FnMut(&Leaf<'_, 'a>),
}

impl<'a> Walk<'_, 'a> {
    fn walk(&mut self, value: &'a Value, key: &'a str) {
        if self.path.len() > DEEPEST {
            return;
        }
        match value {
            Value::String(_) => (self.visit)(&Leaf {
                path: &self.path,
                value,
                key,
                in_loras: self.in_loras,
            }),
            Value::Array(list) => {
                for (place, item) in list.iter().enumerate() {
                    self.step(Part::Place(place), item, key);
                }
            }
            Value::Object(map) if !is_off(map) => {
                for (name, item) in map {
                    let key = if name == WRAPPER { key } else { name };
                    self.step(Part::Key(name), item, key);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, part: Part<'a>, value: &'a Value, key: &'a str) {
        self.path.push(part);
        self.walk(value, key);
        self.path.pop();
    }
}

/// An entry that its node passes over.
fn is_off(map: &Map<String, Value>) -> bool {
    ["on", "active"]
        .iter()
        .any(|switch| map.get(*switch) == Some(&Value::Bool(false)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(inputs: Value) -> (Vec<(String, String, Form)>, Vec<String>) {
        let mut catalogue = Catalogue::default();
        for folder in ["loras", "checkpoints", "vae", "upscale_models"] {
            catalogue.folders.insert(folder.into(), Vec::new());
        }
        let mut graph = json!({"5": {"class_type": "Custom", "inputs": inputs}});
        let found = tasks(graph.as_object_mut().unwrap(), &catalogue);
        let models = found.tasks.iter().map(|task| match &task.work {
            Work::Model(model) => (task.location(), model.folder.clone(), model.form),
            other => panic!("{other:?}"),
        });
        (models.collect(), found.warnings)
    }

    /// F30.
    #[test]
    fn models_in_objects_and_lists_are_found_by_their_keys() {
        let (models, warnings) = found(json!({
            "lora_1": {"on": true, "lora": "https://h/a.safetensors", "strength": 1},
            "lora_2": {"on": false, "lora": "https://h/off.safetensors"},
            "stack": {
                "__value__": [
                    [{"ckpt_name2": "https://h/b"}],
                    {"active": false, "vae": "https://h/off.pt"}
                ]
            },
            "loras": {
                "__value__": [{"name": "https://h/c.safetensors"}, {"name": "here", "active": true}]
            },
            "Upscale_Model_1": ["https://h/d.pth", "https://h/e.pth"],
            "vae_name": "https://h/f.pt",
            "link": ["https://h/g.safetensors", 0],
            "thing": {"url": "https://u:marked@h/h.gguf?token=marked", "page": "https://h/page"},
            "clip_name": {"clip_name": "https://h/folder-that-is-not-there.safetensors"},
        }));
        let model = |place: &str, folder: &str, form| {
            (format!("prompt.5.inputs.{place}"), folder.to_owned(), form)
        };
        let expected = [
            model("lora_1.lora", "loras", Form::Name),
            model("stack.__value__.0.0.ckpt_name2", "checkpoints", Form::Name),
            model("loras.__value__.0.name", "loras", Form::Stem),
            model("Upscale_Model_1.0", "upscale_models", Form::Name),
            model("Upscale_Model_1.1", "upscale_models", Form::Name),
            model("vae_name", "vae", Form::Name),
        ];
        assert_eq!(models, expected);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("prompt.5.inputs.thing.url: https://"),
            "{warnings:?}"
        );
        assert!(!warnings.join("").contains("marked"), "{warnings:?}");
        assert!(warnings[1].starts_with("prompt.5.inputs.clip_name.clip_name: "));
    }

    #[test]
    fn what_lies_too_deep_is_left_alone() {
        let nested = |levels: usize| {
            let leaf = json!({"lora": "https://h/a"});
            (0..levels).fold(leaf, |value, _| json!([value]))
        };
        assert_eq!(found(json!({"x": nested(60)})).0.len(), 1);
        assert_eq!(found(json!({"x": nested(200)})).0.len(), 0);
    }
}
