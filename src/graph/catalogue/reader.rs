//! From the JSON of `/object_info`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::input::{
    Control, DynamicOption, Growing, InputDefinition, MatchType, Round, Special, Upload,
};
use super::{Choices, NodeClass, NodeClasses, Output};

/// A growing group has no more members than this, whatever a class says.
const MOST_GROWN: usize = 4096;

pub fn read(object_info: &Value) -> NodeClasses {
    let mut reader = Reader::default();
    let mut read = NodeClasses::default();
    for (name, about) in object_info.as_object().into_iter().flatten() {
        let Some(about) = about.as_object() else {
            continue;
        };
        let class = reader.class(name, about);
        for output in &class.outputs {
            for kind in output.kind.split(',') {
                if !read.output_types.contains(kind.trim()) {
                    read.output_types.insert(kind.trim().to_owned());
                }
            }
        }
        read.classes.insert(name.clone(), class);
    }
    read
}

/// Some packs put their whole manual there.
fn shortened(text: &str) -> String {
    text.chars().take(1_000).collect()
}

/// Shares equal lists of choices.
#[derive(Default)]
struct Reader {
    shared: HashMap<String, Choices>,
}

impl Reader {
    fn class(&mut self, name: &str, about: &Map<String, Value>) -> NodeClass {
        let mut inputs = Vec::new();
        for (group, required) in [("required", true), ("optional", false)] {
            let Some(members) = about
                .get("input")
                .and_then(|i| i.get(group))
                .and_then(Value::as_object)
            else {
                continue;
            };
            let order = about
                .get("input_order")
                .and_then(|o| o.get(group))
                .and_then(Value::as_array);
            inputs.extend(self.inputs(members, order, required));
        }
        let groups = about.get("output_matchtypes").and_then(Value::as_array);
        let outputs = about.get("output").and_then(Value::as_array);
        NodeClass {
            display_name: text(about, "display_name")
                .filter(|t| !t.is_empty())
                .unwrap_or(name)
                .to_owned(),
            category: text(about, "category").unwrap_or_default().to_owned(),
            description: shortened(text(about, "description").unwrap_or_default()),
            inputs,
            outputs: outputs
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(index, kind)| output(kind, groups.and_then(|groups| groups.get(index))))
                .collect(),
            output_node: flag(about, "output_node"),
            custom: text(about, "python_module")
                .is_none_or(|module| module.starts_with("custom_nodes")),
        }
    }

    fn inputs(
        &mut self,
        members: &Map<String, Value>,
        order: Option<&Vec<Value>>,
        required: bool,
    ) -> Vec<InputDefinition> {
        let listed: Vec<&str> = order
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let known: HashSet<&str> = listed.iter().copied().collect();
        let others = members
            .keys()
            .map(String::as_str)
            .filter(|name| !known.contains(name));
        let names: Vec<&str> = listed.iter().copied().chain(others).collect();
        let mut seen = HashSet::new();
        names
            .into_iter()
            .filter(|name| seen.insert(*name))
            .filter_map(|name| Some(self.input(name, members.get(name)?, required)))
            .collect()
    }

    /// `{"required": {...}, "optional": {...}}` of templates and options.
    fn groups(&mut self, groups: Option<&Value>) -> Vec<InputDefinition> {
        let mut inputs = Vec::new();
        for (group, required) in [("required", true), ("optional", false)] {
            if let Some(members) = groups.and_then(|g| g.get(group)).and_then(Value::as_object) {
                inputs.extend(self.inputs(members, None, required));
            }
        }
        inputs
    }

    fn input(&mut self, name: &str, spec: &Value, required: bool) -> InputDefinition {
        let (kind, options) = match spec {
            Value::Array(list) => (list.first(), list.get(1)),
            other => (Some(other), None),
        };
        self.described(name, kind, options.and_then(Value::as_object), required)
    }

    fn described(
        &mut self,
        name: &str,
        kind: Option<&Value>,
        options: Option<&Map<String, Value>>,
        required: bool,
    ) -> InputDefinition {
        let empty = Map::new();
        let options = options.unwrap_or(&empty);
        let mut input = InputDefinition {
            name: name.to_owned(),
            required,
            default: options.get("default").filter(|d| !d.is_null()).cloned(),
            multiline: flag(options, "multiline"),
            dynamic_prompts: flag(options, "dynamicPrompts"),
            force_input: flag(options, "forceInput"),
            widget_type: text(options, "widgetType").map(str::to_owned),
            control: match options.get("control_after_generate") {
                None | Some(Value::Null) => Control::Absent,
                Some(Value::Bool(true) | Value::String(_)) => Control::On,
                Some(_) => Control::Off,
            },
            min: number(options, "min"),
            max: number(options, "max"),
            step: number(options, "step"),
            round: match options.get("round") {
                Some(Value::Bool(false)) => Round::Never,
                Some(round) => round
                    .as_f64()
                    .filter(|r| *r > 0.0)
                    .map_or(Round::ByStep, Round::To),
                None => Round::ByStep,
            },
            ..InputDefinition::default()
        };
        match kind {
            Some(Value::Array(choices)) => {
                input.kind = "COMBO".to_owned();
                input.choices = Some(self.share(choices));
            }
            Some(Value::String(kind)) => kind.clone_into(&mut input.kind),
            _ => input.kind = "*".to_owned(),
        }
        if input.choices.is_none() && input.kind != "COMFY_DYNAMICCOMBO_V3" {
            input.choices = options
                .get("options")
                .and_then(Value::as_array)
                .map(|list| self.share(list));
        }
        input.special = self.special(&input.kind, options);
        input
    }

    fn special(&mut self, kind: &str, options: &Map<String, Value>) -> Option<Box<Special>> {
        let mut special = Special::default();
        let mut any = false;
        let template = options.get("template");
        match kind {
            "COMFY_AUTOGROW_V3" => {
                special.growing = Some(self.growing(template));
                any = true;
            }
            "COMFY_MATCHTYPE_V3" => {
                let of = |name| template.and_then(|t| t.get(name)).and_then(Value::as_str);
                special.match_type = Some(MatchType {
                    group: of("template_id").unwrap_or_default().to_owned(),
                    allowed: of("allowed_types").unwrap_or("*").to_owned(),
                });
                any = true;
            }
            "COMFY_DYNAMICCOMBO_V3" => {
                let list = options.get("options").and_then(Value::as_array);
                special.options = list
                    .into_iter()
                    .flatten()
                    .filter_map(|option| {
                        Some(DynamicOption {
                            key: option.get("key")?.clone(),
                            inputs: self.groups(option.get("inputs")),
                        })
                    })
                    .collect();
                any = true;
            }
            _ => {}
        }
        if let Some(formats) = options.get("formats").and_then(Value::as_object) {
            special.formats = self.formats(formats);
            any = true;
        }
        if ["image_upload", "video_upload", "animated_image_upload"]
            .iter()
            .any(|f| flag(options, f))
        {
            special.upload = Upload::Media;
            any = true;
        } else if flag(options, "audio_upload") {
            special.upload = Upload::Audio;
            any = true;
        }
        special.media_type = media_type(options);
        any |= special.media_type.is_some();
        if options
            .get("remote")
            .and_then(Value::as_object)
            .is_some_and(|r| flag(r, "refresh_button"))
        {
            special.refresh_button = true;
            any = true;
        }
        any.then(|| Box::new(special))
    }

    fn growing(&mut self, template: Option<&Value>) -> Growing {
        let of = |name| template.and_then(|t| t.get(name));
        let size = |name| {
            of(name)
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
        };
        let names = of("names").and_then(Value::as_array);
        let names: Vec<String> = names
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .take(MOST_GROWN)
            .collect();
        let most = if names.is_empty() {
            MOST_GROWN
        } else {
            names.len()
        };
        Growing {
            inputs: self.groups(of("input")),
            prefix: of("prefix")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            min: size("min").unwrap_or(1).min(most),
            max: size("max").unwrap_or(100).min(most),
            names,
        }
    }

    /// `{"value": [[name, type, options?], ...]}`.
    fn formats(&mut self, formats: &Map<String, Value>) -> Vec<(String, Vec<InputDefinition>)> {
        let mut read = Vec::new();
        for (value, widgets) in formats {
            let Some(widgets) = widgets.as_array() else {
                continue;
            };
            let mut inputs = Vec::new();
            for widget in widgets {
                let Some(name) = widget.get(0).and_then(Value::as_str) else {
                    continue;
                };
                let options = widget.get(2).and_then(Value::as_object);
                inputs.push(self.described(name, widget.get(1), options, true));
            }
            read.push((value.clone(), inputs));
        }
        read
    }

    fn share(&mut self, choices: &[Value]) -> Choices {
        let key = serde_json::to_string(choices).unwrap_or_default();
        self.shared
            .entry(key)
            .or_insert_with(|| Arc::from(choices))
            .clone()
    }
}

fn output(kind: &Value, group: Option<&Value>) -> Output {
    let kind = match kind {
        Value::String(kind) if kind == "COMFY_MATCHTYPE_V3" => "*",
        Value::String(kind) => kind,
        Value::Array(_) => "COMBO",
        _ => "*",
    };
    Output {
        kind: kind.to_owned(),
        match_group: group.and_then(Value::as_str).map(str::to_owned),
    }
}

fn text<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

fn flag(of: &Map<String, Value>, name: &str) -> bool {
    of.get(name).and_then(Value::as_bool) == Some(true)
}

fn number(of: &Map<String, Value>, name: &str) -> Option<Value> {
    of.get(name).filter(|value| value.is_number()).cloned()
}

/// What an upload takes.
fn media_type(options: &Map<String, Value>) -> Option<&'static str> {
    [
        ("image_upload", "image/*"),
        ("animated_image_upload", "image/*"),
        ("mask_upload", "image/*"),
        ("video_upload", "video/*"),
        ("audio_upload", "audio/*"),
        ("file_upload", "*/*"),
    ]
    .into_iter()
    .find(|(name, _)| flag(options, name))
    .map(|(_, media_type)| media_type)
}
