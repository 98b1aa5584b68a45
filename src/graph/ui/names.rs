//! `%NODE.WIDGET%` and `%date:...%` in file names.

use std::collections::HashMap;

use super::model::{ROOT, Role, Workflow};
use super::{promote, text};

/// Classes whose `filename_prefix` may have patterns. All others are known to them by their class.
pub fn saves(class: &str) -> bool {
    matches!(
        class,
        "SaveImage"
            | "SaveImageAdvanced"
            | "SaveSVGNode"
            | "SaveVideo"
            | "SaveAnimatedWEBP"
            | "SaveWEBM"
            | "SaveAudio"
            | "SaveAudioMP3"
            | "SaveAudioOpus"
            | "SaveAudioAdvanced"
            | "SaveGLB"
            | "Save3DAdvanced"
            | "SaveGaussianSplat"
            | "SavePointCloud"
            | "SaveAnimatedPNG"
            | "CLIPSave"
            | "VAESave"
            | "ModelSave"
            | "LoraSave"
            | "SaveLatent"
            | "VHS_VideoCombine"
            | "SaveImageKJ"
            | "SaveImageWithAlpha"
            | "SaveStringKJ"
            | "DecodeAndSaveVideo"
            | "ModelSaveKJ"
            | "LoraExtractKJ"
    )
}

/// Nodes by the names that patterns call them.
pub struct Names {
    by_property: HashMap<String, (usize, usize)>,
    by_title: HashMap<String, (usize, usize)>,
    now: jiff::civil::DateTime,
}

impl Names {
    /// The root in file order, into each subgraph as it comes.
    pub fn read(workflow: &Workflow<'_>, now: jiff::civil::DateTime) -> Self {
        let mut names = Self {
            by_property: HashMap::new(),
            by_title: HashMap::new(),
            now,
        };
        let mut seen = vec![false; workflow.graphs.len()];
        let mut open = vec![(ROOT, 0)];
        while let Some((graph, next)) = open.last_mut() {
            let graph = *graph;
            let Some(node) = workflow.graphs[graph].nodes.get(*next) else {
                open.pop();
                continue;
            };
            let place = *next;
            *next += 1;
            let property = node
                .raw
                .property("Node name for S&R")
                .and_then(|name| name.as_str());
            let by_class = match node.role {
                Role::Class(_) if !saves(node.class) => Some(node.class),
                _ => None,
            };
            if let Some(name) = property.or(by_class) {
                names
                    .by_property
                    .entry(name.to_owned())
                    .or_insert((graph, place));
            }
            let title = workflow.title(graph, place);
            names
                .by_title
                .entry(title.to_owned())
                .or_insert((graph, place));
            // What a graph has is known after its first visit.
            if let Role::Instance(definition) = node.role
                && !std::mem::replace(&mut seen[definition], true)
            {
                open.push((definition, 0));
            }
        }
        names
    }

    /// The text with its patterns replaced.
    pub fn replace(&self, workflow: &Workflow<'_>, text: &str) -> String {
        if !text.contains('%') {
            return text.to_owned();
        }
        text::replace_patterns(text, &mut |pattern| {
            if let Some(format) = pattern.strip_prefix("date:") {
                return Some(text::date(format, &self.now));
            }
            let (node, widget) = pattern.split_once('.')?;
            let at = self
                .by_property
                .get(node)
                .or_else(|| self.by_title.get(node))?;
            self.value(workflow, *at, widget)
        })
    }

    fn value(&self, workflow: &Workflow<'_>, at: (usize, usize), widget: &str) -> Option<String> {
        let node = &workflow.graphs[at.0].nodes[at.1];
        if matches!(node.role, Role::Instance(_)) {
            let slot = node.socket(widget)?;
            let value = promote::value(workflow, at.0, at.1, slot)?;
            return Some(text::for_file_name(&value));
        }
        let widget = node.widgets.get(node.widget(widget)?)?;
        Some(
            widget
                .value
                .as_ref()
                .map(text::for_file_name)
                .unwrap_or_default(),
        )
    }
}
