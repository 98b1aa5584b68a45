//! Walks the inputs of a class: each becomes a socket or a widget, and takes its saved values.

mod values;
mod widgets;

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Value, json};
use values::finished;

use super::Linked;
use super::values::Saved;
use crate::graph::catalogue::{Growing, InputDefinition, NodeClass, NodeClasses};
use crate::graph::ui::model::{Node, Socket, Widget};

pub use values::{controls, default, is_implicit_seed};

/// What a class has made of a node.
pub struct Built<'a> {
    /// Plain ones, then those of widgets.
    pub sockets: Vec<Socket<'a>>,
    pub widgets: Vec<Widget<'a>>,
    /// What is left of the saved values.
    pub saved: Saved<'a>,
    /// Names of its dynamic combos.
    pub dynamic: Vec<String>,
    /// Names of its growing groups.
    pub growing: Vec<String>,
}

/// Types that are widgets in the editor by itself.
fn is_widget_kind(kind: &str) -> bool {
    matches!(
        kind,
        "INT"
            | "FLOAT"
            | "BOOLEAN"
            | "STRING"
            | "COMBO"
            | "COLOR"
            | "BOUNDING_BOX"
            | "BOUNDING_BOXES"
            | "COLORS"
            | "CURVE"
            | "RANGE"
            | "PAINTER"
            | "COMPOSITOR"
            | "IMAGECOMPARE"
            | "TEXTAREA"
            | "MARKDOWN"
            | "COMFY_DYNAMICCOMBO_V3"
            | "LOAD_3D"
            | "WEBCAM"
            | "AUDIO_RECORD"
            | "AUDIO_UI"
    )
}

/// Whether the class alone makes a widget of an input.
pub fn is_widget(input: &InputDefinition) -> bool {
    !input.force_input && (input.widget_type.is_some() || is_widget_kind(&input.kind))
}

pub fn build<'a>(
    node: &Node<'a>,
    class: &'a NodeClass,
    classes: &'a NodeClasses,
    linked: &Linked<'_>,
    saved: Saved<'a>,
) -> Built<'a> {
    let mut builder = Builder {
        node,
        class,
        classes,
        linked,
        saved,
        plain: Vec::new(),
        of_widgets: Vec::new(),
        widgets: Vec::new(),
        names: HashSet::new(),
        listed: listed(node),
        dynamic: Vec::new(),
        growing: Vec::new(),
    };
    builder.walk();
    let mut sockets = builder.plain;
    sockets.append(&mut builder.of_widgets);
    Built {
        sockets,
        widgets: builder.widgets,
        saved: builder.saved,
        dynamic: builder.dynamic,
        growing: builder.growing,
    }
}

/// The inputs that the file's node lists, and whether with a widget.
fn listed<'a>(node: &Node<'a>) -> Vec<(&'a str, bool)> {
    let inputs = node.raw.list("inputs").iter();
    let mut listed: Vec<(&str, bool)> = inputs
        .filter_map(|input| {
            let widget = input.get("widget").is_some_and(|widget| !widget.is_null());
            Some((input.get("name")?.as_str()?, widget))
        })
        .collect();
    listed.sort_unstable();
    listed
}

struct Builder<'a, 'n> {
    node: &'n Node<'a>,
    class: &'a NodeClass,
    classes: &'a NodeClasses,
    linked: &'n Linked<'n>,
    saved: Saved<'a>,
    plain: Vec<Socket<'a>>,
    of_widgets: Vec<Socket<'a>>,
    widgets: Vec<Widget<'a>>,
    names: HashSet<String>,
    listed: Vec<(&'a str, bool)>,
    dynamic: Vec<String>,
    growing: Vec<String>,
}

impl<'a> Builder<'a, '_> {
    fn walk(&mut self) {
        let class = self.class;
        let required = class
            .inputs
            .iter()
            .take_while(|input| input.required)
            .count();
        let (first, rest) = class.inputs.split_at(required);
        for input in first {
            self.input(input, Cow::Borrowed(&input.name));
        }
        self.upload_button();
        for input in rest {
            self.input(input, Cow::Borrowed(&input.name));
        }
        match self.node.class {
            "SaveGLB" | "Preview3D" => self.push("image".into(), None, Some(json!("")), true),
            "CustomCombo" => self.custom_combo(),
            _ => {}
        }
    }

    fn input(&mut self, input: &'a InputDefinition, name: Cow<'a, str>) {
        if let Some(growing) = input.growing() {
            return self.grow(growing, &name);
        }
        if let Some(matching) = input.match_type() {
            let group = Some(matching.group.as_str());
            return self.socket(name, Cow::Borrowed(&matching.allowed), group);
        }
        if self.is_widget(input, &name) {
            self.widget(input, name);
        } else {
            self.socket(name, Cow::Borrowed(&input.kind), None);
        }
    }

    /// Packs have widget types of their own, which only their JavaScript knows.
    fn is_widget(&self, input: &InputDefinition, name: &str) -> bool {
        if input.force_input {
            return false;
        }
        if is_widget(input) {
            return true;
        }
        if input.kind == "*" || input.kind.is_empty() {
            return self.listed_with(name) == Some(true);
        }
        match self.listed_with(name) {
            Some(with_widget) => with_widget,
            None => !self.classes.is_produced(&input.kind),
        }
    }

    fn listed_with(&self, name: &str) -> Option<bool> {
        let from = self.listed.partition_point(|(listed, _)| *listed < name);
        let (listed, _) = self.listed.get(from)?;
        (*listed == name).then(|| {
            self.listed[from..]
                .iter()
                .take_while(|(l, _)| *l == name)
                .any(|(_, widget)| *widget)
        })
    }

    fn socket(&mut self, name: Cow<'a, str>, kind: Cow<'a, str>, group: Option<&'a str>) {
        self.plain.push(Socket {
            name,
            kind,
            match_group: group,
            ..Socket::default()
        });
    }

    fn grow(&mut self, growing: &'a Growing, group: &str) {
        self.growing.push(group.to_owned());
        let several = growing.inputs.len() > 1;
        let name = |input: &InputDefinition, n: usize| {
            if several {
                return format!("{group}.{}{n}", input.name);
            }
            match growing.names.get(n) {
                Some(name) => format!("{group}.{name}"),
                None => format!("{group}.{}{n}", growing.prefix),
            }
        };
        let is_linked = |n: &usize| {
            growing
                .inputs
                .iter()
                .any(|input| self.linked.contains(name(input, *n).as_str()))
        };
        let highest = match self.linked.is_empty() {
            true => None,
            false => (0..growing.max).rev().find(is_linked),
        };
        let count = (growing.min + 1)
            .max(highest.map_or(0, |highest| highest + 2))
            .min(growing.max);
        for n in 0..count {
            for input in &growing.inputs {
                self.input(input, Cow::Owned(name(input, n)));
            }
        }
    }

    fn widget(&mut self, input: &'a InputDefinition, name: Cow<'a, str>) {
        let saved = |builder: &mut Self| {
            let value = builder.saved.take(&name);
            value
                .map(|value| finished(builder.node.class, input, value))
                .or_else(|| default(input))
        };
        match input.widget_kind() {
            "IMAGECOMPARE" => return self.push(name, Some(input), Some(json!(["", ""])), true),
            "AUDIO_UI" => return,
            "LOAD_3D" => {
                self.scene_buttons();
                let value = saved(self);
                return self.push(name, Some(input), value, true);
            }
            "COMFY_DYNAMICCOMBO_V3" => {
                let value = saved(self);
                self.dynamic.push(name.to_string());
                self.push(name.clone(), Some(input), value.clone(), true);
                return self.children(input, &name, value.as_ref());
            }
            _ => {}
        }
        let value = saved(self);
        if input.has_formats() {
            self.push(name, Some(input), value.clone(), true);
            return self.format_widgets(input, value.as_ref());
        }
        let refresh = input.refresh_button();
        let control = controls(input, &name);
        self.push(name, Some(input), value, true);
        match input.widget_kind() {
            "INT" | "FLOAT" => self.saved.skip(control),
            "COMBO" => self.saved.skip(2 * control),
            "BOUNDING_BOX" => self.saved.skip(4),
            _ => {}
        }
        if refresh {
            self.saved.skip(2);
            self.push("refresh".into(), None, Some(json!("refresh")), true);
        }
    }

    fn push(
        &mut self,
        name: Cow<'a, str>,
        input: Option<&'a InputDefinition>,
        value: Option<Value>,
        sent: bool,
    ) {
        let name = if self.names.insert(name.to_string()) {
            name
        } else {
            let again = format!("{name}#1");
            self.names.insert(again.clone());
            Cow::Owned(again)
        };
        if let Some(input) = input {
            self.of_widgets.push(Socket {
                name: name.clone(),
                kind: Cow::Borrowed(input.widget_kind()),
                widget: Some(self.widgets.len()),
                ..Socket::default()
            });
        }
        self.widgets.push(Widget {
            name,
            input,
            value,
            sent,
        });
    }
}
