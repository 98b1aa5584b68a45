//! Where a link really begins: behind reroutes, bypassed nodes and the sides of subgraphs.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::error::ConversionError;
use super::expand::Frames;
use super::model::{End, Family, Mode, Node, Role, Warnings, Workflow, shown};
use super::promote;
use super::types::{fit, is_any};

/// What arrives at an input.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// The output of a node that runs: its execution id, and the slot.
    Output(String, usize),
    /// The value of a promoted widget.
    Value(Value),
    /// Nothing.
    Nothing,
}

/// From here on, steps of one way are remembered.
const LONG: usize = 8;

/// Follows links.
pub struct Resolver<'w, 'a> {
    workflow: &'w Workflow<'a>,
    frames: &'w Frames,
    /// Per graph the first set node of each name.
    setters: Vec<Option<HashMap<(bool, &'a str), usize>>>,
    known: HashMap<Step<'w>, Arrival>,
    pub warnings: Warnings,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step<'w> {
    frame: usize,
    /// None is the input side.
    node: Option<usize>,
    slot: usize,
    kind: &'w str,
}

impl<'w, 'a> Resolver<'w, 'a> {
    pub fn new(workflow: &'w Workflow<'a>, frames: &'w Frames) -> Self {
        Self {
            workflow,
            frames,
            setters: vec![None; workflow.graphs.len()],
            known: HashMap::new(),
            warnings: Warnings::default(),
        }
    }

    /// What arrives at an input of a node that has a link.
    pub fn input(
        &mut self,
        frame: usize,
        node: usize,
        slot: usize,
    ) -> Result<Arrival, ConversionError> {
        let workflow = self.workflow;
        let graph = &workflow.graphs[self.frames.graph(frame)];
        let socket = &graph.nodes[node].inputs[slot];
        let Some(link) = socket.link else {
            return Ok(Arrival::Nothing);
        };
        let Some(mut step) = self.start(frame, link, &socket.kind)? else {
            return Ok(Arrival::Nothing);
        };
        let mut steps = 0;
        let mut seen = HashSet::new();
        let mut remembered = Vec::new();
        let arrival = loop {
            if steps > LONG {
                if let Some(arrival) = self.known.get(&step) {
                    break arrival.clone();
                }
                if !seen.insert(step.clone()) {
                    self.warnings.say(format!(
                        "the link to \"{}\" of node {} comes from a loop of nodes that do not \
                         run; it is left out",
                        shown(&socket.name),
                        self.frames.id(workflow, frame, node),
                    ));
                    break Arrival::Nothing;
                }
                if steps % LONG == 0 {
                    remembered.push(step.clone());
                }
            }
            steps += 1;
            match self.step(&step)? {
                Next::Arrived(arrival) => break arrival,
                Next::On(next) => step = next,
            }
        };
        for step in remembered {
            self.known.insert(step, arrival.clone());
        }
        Ok(arrival)
    }

    /// The step that a link begins with.
    fn start(
        &self,
        frame: usize,
        link: usize,
        kind: &'w str,
    ) -> Result<Option<Step<'w>>, ConversionError> {
        let graph = self.frames.graph(frame);
        let about = &self.workflow.graphs[graph].links[link];
        let node = match &about.origin {
            End::Node(node) => Some(*node),
            End::Side => None,
            End::Missing(missing) => return Err(self.missing(frame, link, missing)),
        };
        Ok(Some(Step {
            frame,
            node,
            slot: about.origin_slot,
            kind,
        }))
    }

    fn step(&mut self, step: &Step<'w>) -> Result<Next<'w>, ConversionError> {
        let Some(node) = step.node else {
            return self.outside(step);
        };
        let workflow = self.workflow;
        let graph = self.frames.graph(step.frame);
        let at = &workflow.graphs[graph].nodes[node];
        match at.mode {
            Mode::Muted => return Ok(Next::nothing()),
            Mode::Bypassed => {
                return match passed(at, step.slot, step.kind) {
                    Some(slot) => self.on(step.frame, at, slot, &at.inputs[slot].kind),
                    None => Ok(Next::nothing()),
                };
            }
            Mode::Active => {}
        }
        match at.role {
            Role::Class(_) => {
                let id = self.frames.id(workflow, step.frame, node);
                Ok(Next::Arrived(Arrival::Output(id, step.slot)))
            }
            Role::Instance(definition) => {
                let port = workflow.graphs[definition].outputs.get(step.slot);
                let inner = self.frames.inside(step.frame, node);
                match port.and_then(|port| port.links.first()).zip(inner) {
                    Some((link, inner)) => Ok(Next::from(self.start(inner, *link, step.kind)?)),
                    None => Ok(Next::nothing()),
                }
            }
            Role::Reroute | Role::Set(_) => self.on(step.frame, at, 0, step.kind),
            Role::EditorOnly => self.on(step.frame, at, step.slot, step.kind),
            Role::Get(family) => self.named(step, at, family),
            Role::BrowserValue => {
                self.warnings.say(format!(
                    "the value of node {} ({}) is known to its author's browser alone; what it is \
                     linked to keeps its own",
                    self.frames.id(workflow, step.frame, node),
                    shown(at.class),
                ));
                Ok(Next::nothing())
            }
            _ => Ok(Next::nothing()),
        }
    }

    /// On at an input of a node that passes things on.
    fn on(
        &self,
        frame: usize,
        node: &Node<'_>,
        slot: usize,
        kind: &'w str,
    ) -> Result<Next<'w>, ConversionError> {
        match node.link_at(slot) {
            Some(link) => Ok(Next::from(self.start(frame, link, kind)?)),
            None => Ok(Next::nothing()),
        }
    }

    /// From the input side of a definition to its instance.
    fn outside(&self, step: &Step<'w>) -> Result<Next<'w>, ConversionError> {
        let Some((frame, node)) = self.frames.around(step.frame) else {
            return Ok(Next::nothing());
        };
        let graph = self.frames.graph(frame);
        let at = &self.workflow.graphs[graph].nodes[node];
        if let Some(link) = at.link_at(step.slot) {
            return Ok(Next::from(self.start(frame, link, step.kind)?));
        }
        let value = promote::value(self.workflow, graph, node, step.slot);
        Ok(value.map_or_else(Next::nothing, |value| Next::Arrived(Arrival::Value(value))))
    }

    /// From a get node to its set node, here or in the graphs around.
    fn named(
        &mut self,
        step: &Step<'w>,
        get: &Node<'a>,
        family: Family,
    ) -> Result<Next<'w>, ConversionError> {
        let name = get.first_text();
        let mut frame = Some(step.frame);
        while let (Some(at), Some(name)) = (frame, name) {
            let graph = self.frames.graph(at);
            if let Some(set) = self.setter(graph, family, name) {
                let set = &self.workflow.graphs[graph].nodes[set];
                return self.on(at, set, 0, step.kind);
            }
            if family == Family::Easy {
                break;
            }
            frame = self.frames.around(at).map(|(frame, _)| frame);
        }
        self.warnings.say(format!(
            "node {} ({}) asks for \"{}\", which no node sets; the link is left out",
            self.frames
                .id(self.workflow, step.frame, step.node.unwrap_or(0)),
            shown(get.class),
            shown(name.unwrap_or_default()),
        ));
        Ok(Next::nothing())
    }

    fn setter(&mut self, graph: usize, family: Family, name: &str) -> Option<usize> {
        let workflow = self.workflow;
        let setters = self.setters[graph].get_or_insert_with(|| {
            let mut setters = HashMap::new();
            for (place, node) in workflow.graphs[graph].nodes.iter().enumerate() {
                if let (Role::Set(family), Some(name)) = (node.role, node.first_text()) {
                    setters
                        .entry((family == Family::Easy, name))
                        .or_insert(place);
                }
            }
            setters
        });
        setters.get(&(family == Family::Easy, name)).copied()
    }

    fn missing(&self, frame: usize, link: usize, missing: &str) -> ConversionError {
        let graph = self.frames.graph(frame);
        let link = &self.workflow.graphs[graph].links[link];
        let target = match link.target {
            End::Node(node) => {
                let slot = self.workflow.graphs[graph].nodes[node]
                    .inputs
                    .get(link.target_slot);
                format!(
                    "to \"{}\" of {}",
                    shown(slot.map_or("", |socket| socket.name.as_ref())),
                    self.frames.named(self.workflow, frame, node)
                )
            }
            _ => "to an output of a subgraph".to_owned(),
        };
        ConversionError::new(
            "links",
            format!(
                "Link {} of the workflow, {target}, comes from node {}, which does not exist",
                shown(&link.id),
                shown(missing),
            ),
        )
    }
}

enum Next<'w> {
    Arrived(Arrival),
    On(Step<'w>),
}

impl<'w> Next<'w> {
    const fn nothing() -> Self {
        Self::Arrived(Arrival::Nothing)
    }

    fn from(step: Option<Step<'w>>) -> Self {
        step.map_or_else(Self::nothing, Self::On)
    }
}

/// The input that an output of a bypassed node passes on, for a consumer that asks for a type.
fn passed(node: &Node<'_>, output: usize, asked: &str) -> Option<usize> {
    let inputs = &node.inputs;
    if is_any(asked) {
        return if output < inputs.len() {
            Some(output)
        } else {
            (!inputs.is_empty()).then_some(0)
        };
    }
    let kind = node
        .outputs
        .get(output)
        .map_or("*", |outlet| outlet.kind.as_ref());
    if let Some(socket) = inputs.get(output)
        && fit(&socket.kind, kind)
        && fit(&socket.kind, asked)
    {
        return Some(output);
    }
    inputs
        .iter()
        .position(|socket| socket.kind == asked)
        .or_else(|| {
            inputs
                .iter()
                .position(|socket| fit(&socket.kind, kind) && fit(&socket.kind, asked))
        })
}
