//! A graph as a form: its inputs that hold values, each with a schema, in the order in which people
//! want to see them; and its outputs (console.md, `POST /graph/inspect`).

mod schema;

use serde::Serialize;
use serde_json::{Map, Value};

use super::catalogue::{InputDefinition, NodeClasses};
use schema::schema;

/// An input that holds a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// `<node>.inputs.<name>`
    pub path: String,
    /// The node.
    pub node_id: String,
    /// Its class.
    pub class_type: String,
    /// Its title, else its class.
    pub title: String,
    /// What the field is called: `<title> #<node id>: <input>`.
    pub label: String,
    /// JSON Schema, as far as ComfyUI describes the input.
    pub schema: Value,
    /// What the graph has there.
    pub value: Value,
    /// Shown at once.
    pub primary: bool,
}

/// An output node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputNode {
    /// The node.
    pub node_id: String,
    /// Its class.
    pub class_type: String,
    /// Its title, else its class.
    pub title: String,
}

/// What comes first where nobody has chosen, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Prompt,
    Media,
    Seed,
    Size,
    Steps,
    Model,
    Other,
}

struct Node<'a> {
    id: &'a str,
    class: &'a str,
    title: &'a str,
    inputs: Option<&'a Map<String, Value>>,
}

fn nodes(graph: &Map<String, Value>) -> impl Iterator<Item = Node<'_>> {
    graph.iter().filter_map(|(id, node)| {
        let class = node.get("class_type")?.as_str()?;
        let title = node.pointer("/_meta/title").and_then(Value::as_str);
        Some(Node {
            id,
            class,
            title: title.filter(|title| !title.is_empty()).unwrap_or(class),
            inputs: node.get("inputs").and_then(Value::as_object),
        })
    })
}

/// The inputs of a graph in API format that hold values. `chosen` are the paths that its author
/// wants to see, in that order; if there are none, what most graphs are used for comes first.
pub fn fields(
    graph: &Map<String, Value>,
    classes: Option<&NodeClasses>,
    chosen: &[String],
) -> Vec<Field> {
    let mut ranked = Vec::new();
    for node in nodes(graph) {
        for (input, value) in node.inputs.into_iter().flatten() {
            if is_link(value, graph) {
                continue;
            }
            let definition = definition(classes, node.class, input);
            let path = format!("{}.inputs.{input}", node.id);
            let order = match chosen.iter().position(|known| *known == path) {
                Some(place) => Some(place),
                None if !chosen.is_empty() => None,
                None => match rank(input, value, definition) {
                    Rank::Other => None,
                    rank => Some(rank as usize),
                },
            };
            ranked.push((
                order.unwrap_or(usize::MAX),
                Field {
                    label: format!("{} #{}: {input}", node.title, node.id),
                    path,
                    node_id: node.id.to_owned(),
                    class_type: node.class.to_owned(),
                    title: node.title.to_owned(),
                    schema: schema(input, value, definition),
                    value: value.clone(),
                    primary: order.is_some(),
                },
            ));
        }
    }
    // Stable: within one kind, and of the rest, the graph's own order stands.
    ranked.sort_by_key(|(order, _)| *order);
    ranked.into_iter().map(|(_, field)| field).collect()
}

/// The output nodes of a graph in API format.
pub fn outputs(graph: &Map<String, Value>, classes: Option<&NodeClasses>) -> Vec<OutputNode> {
    let is_output = |class: &str| {
        let known = classes.and_then(|classes| classes.get(class));
        known.map_or_else(
            || class.starts_with("Save") || class.starts_with("Preview"),
            |class| class.output_node,
        )
    };
    nodes(graph)
        .filter(|node| is_output(node.class))
        .map(|node| OutputNode {
            node_id: node.id.to_owned(),
            class_type: node.class.to_owned(),
            title: node.title.to_owned(),
        })
        .collect()
}

/// `[node, slot]`
fn is_link(value: &Value, graph: &Map<String, Value>) -> bool {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(node), slot]) => slot.is_u64() || graph.contains_key(node),
        _ => false,
    }
}

/// What ComfyUI says of an input.
pub fn definition<'a>(
    classes: Option<&'a NodeClasses>,
    class: &str,
    input: &str,
) -> Option<&'a InputDefinition> {
    let inputs = &classes?.get(class)?.inputs;
    inputs.iter().find(|definition| definition.name == input)
}

/// The media type of what an input takes, where it takes files: ComfyUI's word, else the names that
/// every node uses for them.
pub fn media_type(input: &str, definition: Option<&InputDefinition>) -> Option<&'static str> {
    let by_name = || match input {
        "image" | "mask" => Some("image/*"),
        "video" => Some("video/*"),
        "audio" | "audio_file" => Some("audio/*"),
        _ => None,
    };
    match definition {
        Some(definition) => definition.media_type().or_else(|| {
            // Of a text it is a rule that clients rely on.
            by_name().filter(|_| input == "image" && definition.widget_kind() == "STRING")
        }),
        None => by_name(),
    }
}

fn rank(input: &str, value: &Value, definition: Option<&InputDefinition>) -> Rank {
    let name = input.to_ascii_lowercase();
    if value.is_string() && media_type(input, definition).is_some() {
        return Rank::Media;
    }
    match value {
        Value::String(text) => {
            let is_text = match definition {
                Some(definition) => definition.multiline,
                None => name == "text" || name.contains("prompt"),
            };
            if is_text {
                Rank::Prompt
            } else if is_model(text, definition) {
                Rank::Model
            } else {
                Rank::Other
            }
        }
        Value::Number(_) if name.ends_with("seed") => Rank::Seed,
        Value::Number(_) if matches!(name.as_str(), "width" | "height" | "length") => Rank::Size,
        Value::Number(_) if name == "steps" => Rank::Steps,
        _ => Rank::Other,
    }
}

/// A file of weights, or a choice among such.
fn is_model(text: &str, definition: Option<&InputDefinition>) -> bool {
    let named = |text: &str| {
        let extension = text.rsplit_once('.').map(|(_, extension)| extension);
        extension.is_some_and(|extension| {
            [
                "safetensors",
                "sft",
                "ckpt",
                "pt",
                "pth",
                "bin",
                "gguf",
                "onnx",
            ]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
        })
    };
    let choices = definition.and_then(|definition| definition.choices.as_ref());
    named(text)
        || choices.is_some_and(|choices| choices.iter().filter_map(Value::as_str).any(named))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classes() -> NodeClasses {
        NodeClasses::read(&json!({
            "KSampler": {"input": {"required": {
                "model": ["MODEL"], "seed": [
                    "INT",
                    {"min": 0, "max": 18_446_744_073_709_551_615_u64}
                ],
                "steps": [
                    "INT",
                    {"default": 20, "min": 1, "max": 10000}
                ], "sampler_name": [["euler", "ddim"]]}}, "output": ["LATENT"]},
            "CLIPTextEncode": {
                "input": {"required": {"text": ["STRING", {"multiline": true}]}},
                "output": ["CONDITIONING"]
            },
            "LoadImage": {
                "input": {"required": {"image": [["a.png"], {"image_upload": true}]}},
                "output": ["IMAGE"]
            },
            "CheckpointLoaderSimple": {
                "input": {"required": {"ckpt_name": [["m.safetensors"]]}},
                "output": ["MODEL"]
            },
            "SaveImage": {
                "input": {
                    "required": {
                        "images": ["IMAGE"],
                        "filename_prefix": ["STRING", {"default": "ComfyUI"}]
                    }
                },
                "output": [],
                "output_node": true
            },
        }))
    }

    fn graph() -> Map<String, Value> {
        let graph = json!({
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
            "3": {
                "class_type": "KSampler",
                "inputs": {"model": ["4", 0], "steps": 20, "seed": 5, "sampler_name": "euler"}
            },
            "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
            "6": {
                "class_type": "CLIPTextEncode",
                "inputs": {"text": "a fox"},
                "_meta": {"title": "Positive"}
            },
            "7": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32}},
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["3", 0], "filename_prefix": "x"}
            },
        });
        match graph {
            Value::Object(graph) => graph,
            _ => unreachable!(),
        }
    }

    #[test]
    fn what_graphs_are_used_for_comes_first_and_links_are_left_out() {
        let fields = fields(&graph(), Some(&classes()), &[]);
        let shown: Vec<(&str, bool)> = fields
            .iter()
            .map(|f| (f.path.as_str(), f.primary))
            .collect();
        assert_eq!(
            shown,
            [
                ("6.inputs.text", true),
                ("1.inputs.image", true),
                ("3.inputs.seed", true),
                ("7.inputs.width", true),
                ("7.inputs.height", true),
                ("3.inputs.steps", true),
                ("4.inputs.ckpt_name", true),
                ("3.inputs.sampler_name", false),
                ("9.inputs.filename_prefix", false),
            ]
        );
        assert_eq!(fields[0].label, "Positive #6: text");
        assert_eq!(
            (fields[2].label.as_str(), &fields[2].value),
            ("KSampler #3: seed", &json!(5))
        );
        assert_eq!(
            fields[1].schema,
            json!({"type": "string", "contentMediaType": "image/*"})
        );
        assert_eq!(
            fields[5].schema,
            json!({"type": "integer", "minimum": 1, "maximum": 10000, "default": 20})
        );
        assert_eq!(fields[6].schema, json!({"enum": ["m.safetensors"]}));
        let saves = outputs(&graph(), Some(&classes()));
        assert_eq!((saves.len(), saves[0].node_id.as_str()), (1, "9"));
    }

    #[test]
    fn an_authors_choice_and_order_stand() {
        let chosen = ["3.inputs.steps".to_owned(), "6.inputs.text".to_owned()];
        let fields = fields(&graph(), Some(&classes()), &chosen);
        let primary: Vec<&str> = fields
            .iter()
            .filter(|f| f.primary)
            .map(|f| f.path.as_str())
            .collect();
        assert_eq!(primary, chosen);
        assert_eq!(fields[2].path, "4.inputs.ckpt_name");
    }

    #[test]
    fn graphs_of_an_unknown_comfyui_are_described_by_their_values() {
        let fields = fields(&graph(), None, &[]);
        assert_eq!(fields[0].path, "6.inputs.text");
        assert_eq!(fields[0].schema, json!({"type": "string"}));
        assert_eq!(outputs(&graph(), None)[0].class_type, "SaveImage");
    }
}
