//! The workflow while it is worked on: graphs of nodes with sockets, widgets and links.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::graph::catalogue::{InputDefinition, NodeClass};

/// The root graph's place in [`Workflow::graphs`].
pub const ROOT: usize = 0;

/// All graphs of a file.
#[derive(Debug, Default)]
pub struct Workflow<'a> {
    /// The root, then the definitions of subgraphs and group nodes.
    pub graphs: Vec<Graph<'a>>,
    /// Said beside the result.
    pub warnings: Warnings,
}

/// The root graph or a definition.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    /// A definition's name.
    pub name: &'a str,
    /// Its nodes.
    pub nodes: Vec<Node<'a>>,
    /// Its links.
    pub links: Vec<Link>,
    /// A definition's inputs.
    pub inputs: Vec<Port<'a>>,
    /// How many of them the file has.
    pub declared: usize,
    /// A definition's outputs.
    pub outputs: Vec<Port<'a>>,
    /// It stands for one group node.
    pub is_group_node: bool,
    /// Rectangles with titles.
    pub groups: &'a [Value],
    /// Where the nodes are, by the ids that the file gives them.
    pub by_file_id: HashMap<String, usize>,
    /// Inputs that have taken the place of primitives.
    pub of_primitives: HashMap<usize, usize>,
}

/// An input or output of a definition.
#[derive(Debug, Default, Clone)]
pub struct Port<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What people see instead.
    pub label: Option<&'a str>,
    /// Its type.
    pub kind: Cow<'a, str>,
    /// Its links inside, in its own order.
    pub links: Vec<usize>,
    /// The node and socket inside whose widget it stands for.
    pub promoted: Option<(usize, usize)>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A node of the same graph.
    Node(usize),
    /// The input or output side of the definition.
    Side,
    /// A node that is not there.
    Missing(String),
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Link {
    /// As the file has it.
    pub id: String,
    /// Where it comes from.
    pub origin: End,
    /// From which output.
    pub origin_slot: usize,
    /// Where it goes.
    pub target: End,
    /// To which input: a socket's place, or a definition's output.
    pub target_slot: usize,
}

/// A node.
#[derive(Debug, Default)]
pub struct Node<'a> {
    /// Its id, unique in the file.
    pub id: String,
    /// Its type.
    pub class: &'a str,
    /// What it is.
    pub role: Role<'a>,
    /// Whether it runs.
    pub mode: Mode,
    /// As the file has it.
    pub raw: Raw<'a>,
    /// Sockets: plain ones first, then those of widgets.
    pub inputs: Vec<Socket<'a>>,
    /// Outputs.
    pub outputs: Vec<Outlet<'a>>,
    /// Widgets in their order.
    pub widgets: Vec<Widget<'a>>,
    /// An instance's values of promoted widgets, by input of the definition.
    pub host_values: HashMap<usize, Value>,
}

/// What a node is.
#[derive(Debug, Default, Clone, Copy)]
pub enum Role<'a> {
    /// A note: nothing.
    #[default]
    Nothing,
    /// An instance of a definition.
    Instance(usize),
    /// A class of ComfyUI.
    Class(&'a NodeClass),
    /// Passes its first input on.
    Reroute,
    /// Writes its value into its targets.
    Primitive,
    /// Gives a name to what it gets.
    Set(Family),
    /// Gives what has that name.
    Get(Family),
    /// Of the editor alone; an output goes on at the input of its index.
    EditorOnly,
    /// Sends to sockets without links, and is itself unknown to ComfyUI.
    Broadcaster,
    /// Its value is known to the author's browser alone.
    BrowserValue,
    /// A class that ComfyUI does not have.
    Unknown,
    /// An unknown class that is taken for one of the editor alone.
    Skipped,
    /// An instance of a definition that is not there.
    Undefined,
}

/// Which set and get nodes belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `SetNode`, `GetNode`.
    Kj,
    /// `easy setNode`, `easy getNode`.
    Easy,
}

/// Whether a node runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    #[default]
    Active,
    /// It does not, and gives nothing.
    Muted,
    /// It does not, and passes its inputs on.
    Bypassed,
}

/// The node as the file has it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Raw<'a>(pub Option<&'a Map<String, Value>>);

impl<'a> Raw<'a> {
    /// A member that is not null.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    /// A list; empty when it is none.
    pub fn list(self, name: &str) -> &'a [Value] {
        self.get(name)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// A property.
    pub fn property(self, name: &str) -> Option<&'a Value> {
        self.get("properties")?
            .get(name)
            .filter(|value| !value.is_null())
    }
}

/// An input of a node.
#[derive(Debug, Default, Clone)]
pub struct Socket<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What people see instead.
    pub label: Option<&'a str>,
    /// Its type.
    pub kind: Cow<'a, str>,
    /// The link that ends here.
    pub link: Option<usize>,
    /// The widget of the same name.
    pub widget: Option<usize>,
    /// The group of inputs whose type it shares.
    pub match_group: Option<&'a str>,
    /// The file lists it.
    pub listed: bool,
}

/// An output of a node.
#[derive(Debug, Default, Clone)]
pub struct Outlet<'a> {
    /// Its type.
    pub kind: Cow<'a, str>,
    /// The group of inputs whose type it has.
    pub match_group: Option<&'a str>,
}

/// A widget of a node.
#[derive(Debug, Clone)]
pub struct Widget<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What the class says of it.
    pub input: Option<&'a InputDefinition>,
    /// None is JavaScript's `undefined`.
    pub value: Option<Value>,
    /// It goes into the graph.
    pub sent: bool,
}

impl<'a> Node<'a> {
    /// Its own title, if it has one.
    pub fn own_title(&self) -> Option<&'a str> {
        self.raw.text("title").filter(|title| !title.is_empty())
    }

    /// A widget by its name.
    pub fn widget(&self, name: &str) -> Option<usize> {
        self.widgets.iter().position(|widget| widget.name == name)
    }

    /// A socket by its name.
    pub fn socket(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|socket| socket.name == name)
    }

    /// The link at a socket.
    pub fn link_at(&self, slot: usize) -> Option<usize> {
        self.inputs.get(slot)?.link
    }

    /// The first of the saved values, as a text.
    pub fn first_text(&self) -> Option<&'a str> {
        match self.raw.get("widgets_values")? {
            Value::Array(list) => list.first()?.as_str(),
            Value::Object(map) => map.values().next()?.as_str(),
            _ => None,
        }
    }
}

impl Workflow<'_> {
    /// The title that people see.
    pub fn title(&self, graph: usize, node: usize) -> &str {
        let node = &self.graphs[graph].nodes[node];
        node.own_title().unwrap_or_else(|| match node.role {
            Role::Instance(definition) => self.graphs[definition].name,
            Role::Class(class) => &class.display_name,
            _ => node.class,
        })
    }
}

/// What is said beside the result: each once, and not without end.
#[derive(Debug, Default)]
pub struct Warnings {
    texts: Vec<String>,
    left_out: usize,
}

impl Warnings {
    const MOST: usize = 100;

    /// Says it.
    pub fn say(&mut self, text: String) {
        if self.texts.len() >= Self::MOST {
            self.left_out += 1;
        } else if !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    /// All of them.
    pub fn into_texts(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.texts
                .push(format!("{} more warnings of this kind", self.left_out));
        }
        self.texts
    }
}

/// At most so much of a text that a stranger wrote.
pub fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
    }
}

/// An id as text: `5` is `"5"`.
pub fn id_text(id: &Value) -> Option<String> {
    match id {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => match number.as_f64() {
            _ if number.is_i64() || number.is_u64() => Some(number.to_string()),
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => {
                Some(format!("{float:.0}"))
            }
            _ => Some(number.to_string()),
        },
        _ => None,
    }
}

/// An index; numbers that are no index are out of reach.
pub fn index(value: Option<&Value>) -> usize {
    let number = match value {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|f| f.fract() == 0.0 && *f >= 0.0 && *f < 1e9)
                .map(|f| f as u64)
        }),
        None => None,
    };
    number
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX)
}
