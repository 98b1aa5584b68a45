//! Subgraphs laid open: every instance with its own copy of what it holds.

use std::collections::HashMap;

use super::error::ConversionError;
use super::model::{Mode, ROOT, Role, Workflow, shown};

/// Instances, and the graphs around them.
#[derive(Debug, Default)]
pub struct Frames {
    frames: Vec<Frame>,
    inside: HashMap<(usize, usize), usize>,
}

#[derive(Debug)]
struct Frame {
    graph: usize,
    around: Option<(usize, usize)>,
    /// In front of the ids of its nodes.
    prefix: String,
}

impl Frames {
    /// Lays the graphs open, root first.
    pub fn open(workflow: &Workflow<'_>) -> Result<Self, ConversionError> {
        let root = Frame {
            graph: ROOT,
            around: None,
            prefix: String::new(),
        };
        let mut frames = Self {
            frames: vec![root],
            inside: HashMap::new(),
        };
        let (mut nodes, mut text) = (0, 0);
        let mut waiting = vec![0];
        while let Some(frame) = waiting.pop() {
            let graph = &workflow.graphs[frames.graph(frame)];
            nodes += graph.nodes.len() + 1;
            text += frames.frames[frame].prefix.len() * graph.nodes.len().max(1);
            if nodes > super::MOST_NODES || text > super::MOST_ID_TEXT {
                return Err(ConversionError::new(
                    "definitions",
                    format!(
                        "With its subgraphs laid open the workflow has more than {} nodes",
                        super::MOST_NODES
                    ),
                ));
            }
            let first = waiting.len();
            for (node, at) in graph.nodes.iter().enumerate() {
                let Role::Instance(definition) = at.role else {
                    continue;
                };
                let whole = frame == 0 || workflow.graphs[definition].is_group_node;
                if whole && at.mode != Mode::Active {
                    continue;
                }
                let prefix = format!("{}{}:", frames.frames[frame].prefix, at.id);
                let place = frames.frames.len();
                frames.frames.push(Frame {
                    graph: definition,
                    around: Some((frame, node)),
                    prefix,
                });
                frames.inside.insert((frame, node), place);
                waiting.push(place);
                if place > super::MOST_NODES {
                    break;
                }
            }
            if let Some(new) = waiting.get_mut(first..) {
                new.reverse();
            }
        }
        Ok(frames)
    }

    /// How many there are; the root is 0.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Titles of the instances by execution id.
    pub fn instances(&self, workflow: &Workflow<'_>) -> HashMap<String, String> {
        let inner = self
            .frames
            .iter()
            .filter_map(|frame| Some((frame, frame.around?)));
        inner
            .map(|(frame, (around, node))| {
                let title = workflow.title(self.graph(around), node);
                (
                    frame.prefix.trim_end_matches(':').to_owned(),
                    shown(title).into_owned(),
                )
            })
            .collect()
    }

    /// The graph of a frame.
    pub fn graph(&self, frame: usize) -> usize {
        self.frames[frame].graph
    }

    /// The instance that a frame is in.
    pub fn around(&self, frame: usize) -> Option<(usize, usize)> {
        self.frames[frame].around
    }

    /// What an instance holds.
    pub fn inside(&self, frame: usize, node: usize) -> Option<usize> {
        self.inside.get(&(frame, node)).copied()
    }

    /// The execution id of a node.
    pub fn id(&self, workflow: &Workflow<'_>, frame: usize, node: usize) -> String {
        let frame = &self.frames[frame];
        format!(
            "{}{}",
            frame.prefix, workflow.graphs[frame.graph].nodes[node].id
        )
    }

    /// `"KSampler" in "Upscale"`: the title, and those of the instances around.
    pub fn title(&self, workflow: &Workflow<'_>, frame: usize, node: usize) -> String {
        const MOST_AROUND: usize = 8;
        let mut text = format!("\"{}\"", shown(workflow.title(self.graph(frame), node)));
        let mut around = self.around(frame);
        for _ in 0..MOST_AROUND {
            let Some((frame, node)) = around else { break };
            let title = workflow.title(self.graph(frame), node);
            text.push_str(&format!(" in \"{}\"", shown(title)));
            around = self.around(frame);
        }
        text
    }

    /// `node 12:3 "KSampler" in "Upscale"`.
    pub fn named(&self, workflow: &Workflow<'_>, frame: usize, node: usize) -> String {
        let id = self.id(workflow, frame, node);
        format!("node {} {}", shown(&id), self.title(workflow, frame, node))
    }
}
