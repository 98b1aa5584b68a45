//! Who broadcasts what.

use serde_json::Value;

use super::has;
use super::limits::{Pattern, Taker, color, groups_around};
use crate::graph::ui::file::is_broadcaster;
use crate::graph::ui::model::{End, Mode, Node, Raw, Role, Warnings, Workflow, shown};
use crate::graph::ui::text;

/// One broadcast.
pub struct Sender {
    /// Where it comes from: a node, or the input side of the definition.
    pub origin: Option<usize>,
    pub slot: usize,
    pub kind: String,
    /// Inputs of type `*` take it, too.
    pub to_any: bool,
    pub priority: f64,
    name: String,
    /// The name counts.
    by_name: bool,
    rules: std::rc::Rc<Rules>,
}

/// What a broadcasting node asks of takers.
struct Rules {
    title: Pattern,
    input: Pattern,
    group: Pattern,
    group_restricted: u64,
    color_restricted: u64,
    groups: Vec<usize>,
    color: Option<String>,
    repeated_rule: u64,
    unrepeated_too: bool,
    to_any: bool,
    priority: Option<f64>,
}

impl Sender {
    /// Whether a taker gets it.
    pub fn reaches(&self, taker: &Taker<'_>) -> bool {
        let rules = &self.rules;
        if taker.node.is_some() && taker.node == self.origin {
            return false;
        }
        let in_group = taker
            .groups
            .iter()
            .any(|(group, _)| rules.groups.contains(group));
        let same_color = taker.color == rules.color.as_deref();
        let restricted = match (rules.group_restricted, rules.color_restricted) {
            (1, _) if !in_group => true,
            (2, _) if in_group => true,
            (_, 1) if !same_color => true,
            (_, 2) if same_color => true,
            _ => false,
        };
        !restricted
            && rules.title.allows(std::iter::once(taker.title))
            && rules.input.allows(std::iter::once(taker.shown()))
            && rules
                .group
                .allows(taker.groups.iter().map(|(_, title)| *title))
            && (!self.by_name || self.is_meant(taker))
    }

    /// Of two broadcasts of one type: whether this one is meant.
    fn is_meant(&self, taker: &Taker<'_>) -> bool {
        let name = self.name.as_str();
        let names = [taker.label, Some(taker.name)];
        let any = |test: &dyn Fn(&str) -> bool| names.iter().flatten().any(|taken| test(taken));
        match self.rules.repeated_rule {
            1 => any(&|taken| taken.starts_with(name) || name.starts_with(taken)),
            2 => any(&|taken| taken.ends_with(name) || name.ends_with(taken)),
            3 => taker.title == name,
            4 => {
                let pattern = Pattern::new(Some(name), false);
                any(&|taken| pattern.allows(std::iter::once(taken)))
            }
            _ => any(&|taken| taken == name),
        }
    }
}

/// All broadcasts of a graph.
pub fn all(workflow: &Workflow<'_>, place: usize, warnings: &mut Warnings) -> Vec<Sender> {
    let mut all = Vec::new();
    for (node, at) in workflow.graphs[place].nodes.iter().enumerate() {
        if at.mode != Mode::Active {
            continue;
        }
        let converted = at.raw.property("ue_convert").is_some_and(text::is_truthy);
        let sent = match at.class {
            "Seed Everywhere" => outputs(at, node),
            class if is_broadcaster(class) => inputs(workflow, place, at),
            _ if converted => outputs(at, node),
            _ => continue,
        };
        if sent.is_empty() {
            continue;
        }
        let rules = std::rc::Rc::new(rules(workflow, place, node));
        if [&rules.title, &rules.input, &rules.group]
            .iter()
            .any(|pattern| pattern.is_broken())
        {
            warnings.say(format!(
                "node {} ({}) has a regular expression that cannot be read; it matches nothing",
                shown(&at.id),
                shown(at.class),
            ));
        }
        for one in &sent {
            let repeated = sent.iter().filter(|other| other.kind == one.kind).count() > 1;
            let by_name = repeated || rules.unrepeated_too;
            all.push(Sender {
                origin: one.origin,
                slot: one.slot,
                kind: one.kind.clone(),
                to_any: rules.to_any,
                priority: rules
                    .priority
                    .unwrap_or_else(|| priority(at.class, &rules, by_name)),
                name: one.name.clone(),
                by_name,
                rules: rules.clone(),
            });
        }
    }
    all
}

fn priority(class: &str, rules: &Rules, by_name: bool) -> f64 {
    let regex = rules.title.is_some() || rules.input.is_some() || rules.group.is_some();
    let mut priority = 10.0;
    for (counts, more) in [
        (regex || by_name, 20.0),
        (rules.group_restricted != 0, 3.0),
        (rules.color_restricted != 0, 6.0),
        (
            matches!(class, "Prompts Everywhere" | "Seed Everywhere"),
            10.0,
        ),
    ] {
        if counts {
            priority += more;
        }
    }
    priority
}

struct Sent {
    origin: Option<usize>,
    slot: usize,
    kind: String,
    name: String,
}

/// Nodes that broadcast their own outputs.
fn outputs(at: &Node<'_>, node: usize) -> Vec<Sent> {
    let names = at.raw.list("outputs");
    let silent = at
        .raw
        .property("ue_properties")
        .and_then(|u| u.get("output_not_broadcasting"));
    let outputs = at.outputs.iter().enumerate();
    outputs
        .filter_map(|(slot, outlet)| {
            let text = |member| {
                names
                    .get(slot)
                    .and_then(|o| o.get(member))
                    .and_then(Value::as_str)
            };
            let name = text("name").unwrap_or(&outlet.kind);
            let is_silent = silent.is_some_and(|s| has(s, name) || has(s, &slot.to_string()));
            (!is_silent).then(|| Sent {
                origin: Some(node),
                slot,
                kind: outlet.kind.to_string(),
                name: text("label").unwrap_or(name).to_owned(),
            })
        })
        .collect()
}

/// Nodes that broadcast what enters them.
fn inputs(workflow: &Workflow<'_>, place: usize, at: &Node<'_>) -> Vec<Sent> {
    let is_old_prompts =
        at.class == "Prompts Everywhere" && at.raw.property("ue_properties").is_none();
    let mut sent = Vec::new();
    let plain = at
        .inputs
        .iter()
        .filter(|socket| socket.widget.is_none() && socket.listed);
    for (number, socket) in plain.enumerate() {
        let Some((origin, slot, kind)) =
            socket.link.and_then(|link| entering(workflow, place, link))
        else {
            continue;
        };
        let name = match number {
            0 if is_old_prompts => "positive",
            1 if is_old_prompts => "negative",
            _ => socket.label.unwrap_or(&socket.name),
        };
        sent.push(Sent {
            origin,
            slot,
            kind,
            name: name.to_owned(),
        });
    }
    sent
}

/// What a link brings: its origin and type, behind bypassed nodes.
fn entering(
    workflow: &Workflow<'_>,
    place: usize,
    link: usize,
) -> Option<(Option<usize>, usize, String)> {
    let graph = &workflow.graphs[place];
    let mut link = &graph.links[link];
    let mut kind: Option<String> = None;
    for _ in 0..graph.nodes.len() + 1 {
        let node = match &link.origin {
            End::Node(node) => *node,
            End::Side => {
                let port = graph.inputs.get(link.origin_slot)?;
                return Some((
                    None,
                    link.origin_slot,
                    kind.unwrap_or_else(|| port.kind.to_string()),
                ));
            }
            End::Missing(_) => return None,
        };
        let at = &graph.nodes[node];
        let own = at
            .outputs
            .get(link.origin_slot)
            .map_or("*", |outlet| outlet.kind.as_ref());
        if own != "*" || !matches!(at.role, Role::Reroute) {
            kind.get_or_insert_with(|| own.to_owned());
        }
        match at.mode {
            Mode::Muted => return None,
            Mode::Bypassed => {
                let kind = kind.as_deref().unwrap_or(own);
                let fits = |slot: usize| {
                    let socket = at.inputs.get(slot)?;
                    (socket.kind == kind).then_some(socket.link)?
                };
                let next =
                    fits(link.origin_slot).or_else(|| (0..at.inputs.len()).find_map(fits))?;
                link = &graph.links[next];
            }
            Mode::Active if kind.is_none() => match at.link_at(0) {
                // A reroute of any type has that of what enters it.
                Some(next) => {
                    let kind = behind(workflow, place, next).unwrap_or_else(|| "*".to_owned());
                    return Some((Some(node), link.origin_slot, kind));
                }
                None => return None,
            },
            Mode::Active => {
                return Some((
                    Some(node),
                    link.origin_slot,
                    kind.unwrap_or_else(|| own.to_owned()),
                ));
            }
        }
    }
    None
}

/// The type behind reroutes.
fn behind(workflow: &Workflow<'_>, place: usize, link: usize) -> Option<String> {
    let graph = &workflow.graphs[place];
    let mut link = &graph.links[link];
    for _ in 0..graph.nodes.len() + 1 {
        let End::Node(node) = link.origin else {
            return graph
                .inputs
                .get(link.origin_slot)
                .map(|port| port.kind.to_string());
        };
        let at = &graph.nodes[node];
        let own = at.outputs.get(link.origin_slot)?;
        if own.kind != "*" || !matches!(at.role, Role::Reroute) {
            return Some(own.kind.to_string());
        }
        link = &graph.links[at.link_at(0)?];
    }
    None
}

fn rules(workflow: &Workflow<'_>, place: usize, node: usize) -> Rules {
    let at = &workflow.graphs[place].nodes[node];
    let raw = at.raw;
    let new = raw
        .property("ue_properties")
        .filter(|u| u.is_object() && !is_before_7(u));
    let of = |name: &str| -> Option<&Value> {
        match new {
            Some(rules) => rules.get(name).filter(|value| !value.is_null()),
            None => raw.property(name),
        }
    };
    let number = |name: &str| match of(name) {
        Some(Value::Bool(set)) => u64::from(*set),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    };
    let pattern = |name: &str, place: usize| {
        let text = match new {
            Some(rules) => rules.get(name).and_then(Value::as_str),
            None => old_pattern(at.class, raw, place),
        };
        let inverted = new.and_then(|rules| rules.get(format!("{name}_invert")));
        Pattern::new(text, inverted.is_some_and(text::is_truthy))
    };
    Rules {
        title: pattern("title_regex", 0),
        input: pattern("input_regex", 1),
        group: pattern("group_regex", 2),
        group_restricted: number("group_restricted"),
        color_restricted: number("color_restricted"),
        groups: groups_around(workflow, place, node)
            .into_iter()
            .map(|(group, _)| group)
            .collect(),
        color: color(raw).map(str::to_owned),
        repeated_rule: number("repeated_type_rule"),
        unrepeated_too: of("apply_to_unrepeated").is_some_and(text::is_truthy),
        to_any: of("send_to_any").is_some_and(text::is_truthy),
        priority: of("priority").and_then(Value::as_f64),
    }
}

fn is_before_7(rules: &Value) -> bool {
    let version = rules
        .get("version")
        .and_then(Value::as_str)
        .and_then(|v| v.split('.').next());
    version
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major < 7)
}

/// Older versions kept patterns in widgets.
fn old_pattern<'a>(class: &str, raw: Raw<'a>, place: usize) -> Option<&'a str> {
    match class {
        "Anything Everywhere?" => raw.list("widgets_values").get(place)?.as_str(),
        "Seed Everywhere" if place == 1 => Some("seed"),
        _ => None,
    }
}
