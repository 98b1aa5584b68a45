//! Finds the files and texts that a prompt has made, and takes the files into its own folder
//! (prompt.md, section 4; F04, F09, U1).

mod elsewhere;
mod previews;
mod secure;
mod texts;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use previews::Preview;
use serde_json::{Map, Value};
use texts::take_texts;

use super::super::cleanup::{Claim, Owner};
use super::super::preprocess::names;
use super::place::{Place, Roots};
use super::reported::{Name, Reported, reported};
use super::{FileCleanup, OutputFile};

pub use elsewhere::Elsewhere;

/// What a prompt has made.
#[derive(Debug, Default)]
pub struct Collected {
    /// Files of type `output` that are there, in ComfyUI's order.
    pub files: Vec<OutputFile>,
    /// Files of type `temp` that are there; only where there are no others.
    pub previews: Vec<OutputFile>,
    /// Files of type `temp` that are not on this machine, likewise.
    pub elsewhere: Vec<Elsewhere>,
    /// `{node_id: [string]}`
    pub texts: Map<String, Value>,
    /// Files that were reported but are not there, in sentences.
    pub missing: Vec<String>,
    /// The nodes that must run anew: what they reported is gone, or it cannot be told who made it.
    pub stale: BTreeSet<String>,
    /// One of these wrote under a name that others may write to, while others could.
    pub names_shared: bool,
}

impl Collected {
    /// Nothing that could be delivered.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.previews.is_empty()
            && self.elsewhere.is_empty()
            && self.texts.is_empty()
    }

    /// Adds what the next part of a run has made; of texts each node's last count.
    pub fn add(&mut self, part: Self) {
        self.files.extend(part.files);
        self.previews.extend(part.previews);
        self.elsewhere.extend(part.elsewhere);
        self.texts.extend(part.texts);
        self.missing.extend(part.missing);
        self.stale.extend(part.stale);
        self.names_shared |= part.names_shared;
    }
}

/// The output of a node of the client's graph.
#[derive(Debug, Clone)]
pub struct NodeOutput {
    /// The node in the client's graph; several inner nodes belong to one.
    pub node: String,
    /// What it reported.
    pub output: Value,
}

/// What `collect` needs to know of a run.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The graph.
    pub graph: Arc<Map<String, Value>>,
    /// Which file names are the prompt's.
    pub claim: Arc<Claim>,
    /// Nodes whose result ComfyUI took from its cache.
    pub cached: HashSet<String>,
    /// No other run could write under names that are shared.
    pub alone: bool,
    /// Files have come in another way, so that previews are not wanted.
    pub has_files: bool,
    /// It goes on under another id: what was not reported yet may still be written (F27).
    pub goes_on: bool,
}

/// What small files of a job may take in memory until they are delivered, in bytes.
const ROOM: u64 = 512 * 1024;

/// Reads what the nodes of a run have reported, and what they have written without that. Every file
/// of theirs is added to `cleanup`. Looks at files: for a blocking thread.
pub fn collect(outputs: &[NodeOutput], facts: &RunFacts, cleanup: &FileCleanup) -> Collected {
    let temp = facts.claim.temp_dir();
    let mut collecting = Collecting {
        facts,
        cleanup,
        roots: Roots {
            output: &facts.claim.output_dir,
            temp: &temp,
        },
        seen: HashSet::new(),
        names: Vec::new(),
        saving: HashSet::new(),
        temps: Vec::new(),
        made: Collected::default(),
        room: ROOM,
    };
    for NodeOutput { node, output } in outputs {
        let before = collecting.saving.contains(node);
        for one in reported(output) {
            collecting.take(node, &one);
        }
        if !before && !collecting.saving.contains(node) {
            take_texts(&mut collecting.made.texts, node, output);
        }
    }
    let saving = std::mem::take(&mut collecting.saving);
    for node in &saving {
        collecting.made.texts.remove(node);
    }
    if !facts.goes_on {
        collecting.take_unreported(&saving);
    }
    collecting.take_previews();
    collecting.made
}

struct Collecting<'a> {
    facts: &'a RunFacts,
    cleanup: &'a FileCleanup,
    roots: Roots<'a>,
    /// Places that were looked at.
    seen: HashSet<PathBuf>,
    /// Where files were that are taken, for their by-products.
    names: Vec<PathBuf>,
    /// Nodes that reported files of type `output`.
    saving: HashSet<String>,
    temps: Vec<Preview>,
    made: Collected,
    /// How much may still be kept in memory, in bytes.
    room: u64,
}

impl Collecting<'_> {
    fn take(&mut self, node: &str, one: &Reported<'_>) {
        let place = self.roots.find(&one.name);
        let as_text = matches!(one.name, Name::Text { .. });
        match place {
            Place::Nothing => {}
            Place::Outside => self.made.missing.push(format!(
                "node {node} reported the file \"{}\", which lies outside of the output \
                 directory; it is not delivered",
                shown(&one.name)
            )),
            Place::Found { path, temp, kind } => {
                if !self.seen.insert(path.clone()) {
                    self.saving.extend((!temp).then(|| node.to_owned()));
                } else if temp {
                    self.temps.push(Preview::new(node, one.key, path, true));
                } else {
                    self.take_output(node, one, (path, kind), as_text);
                }
            }
            // It was taken before: another node has reported it, too.
            Place::Missing { path, temp: false } if self.seen.contains(&path) => {
                self.saving.insert(node.to_owned());
            }
            Place::Missing { path, temp } => {
                // A text that names nothing is a text, unless it can only have been a file of ours.
                let Name::Text { mixed, .. } = one.name else {
                    return self.miss(node, one, path, temp);
                };
                if mixed && self.facts.cached.contains(node) || self.is_ours(&path) {
                    self.miss(node, one, path, temp);
                }
            }
        }
    }

    fn take_output(
        &mut self,
        node: &str,
        one: &Reported<'_>,
        (path, kind): (PathBuf, FileType),
        as_text: bool,
    ) {
        match self.owner_of(&path, kind) {
            Owner::Another if as_text => return,
            Owner::Another => {
                let sentence = format!(
                    "node {node} reported the file \"{}\", which another prompt is making; it is \
                     not delivered",
                    shown(&one.name)
                );
                return self.made.missing.push(sentence);
            }
            Owner::Nobody if self.facts.cached.contains(node) => {
                // An earlier run has made it, if nobody has written it since.
                self.made.stale.insert(node.to_owned());
                self.saving.insert(node.to_owned());
                return;
            }
            Owner::Nobody if !self.facts.alone => {
                self.made.names_shared = true;
                self.made.stale.insert(node.to_owned());
                self.saving.insert(node.to_owned());
                return;
            }
            Owner::Ours(_) | Owner::Nobody => {}
        }
        self.saving.insert(node.to_owned());
        match self.secured(node, one.key, &path, kind) {
            Ok(file) => self.made.files.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.miss(node, one, path, false)
            }
            Err(error) => self.made.missing.push(format!(
                "node {node} reported the file \"{}\", which cannot be read: {error}",
                shown(&one.name)
            )),
        }
    }

    /// It was reported, but is not there.
    fn miss(&mut self, node: &str, one: &Reported<'_>, path: PathBuf, temp: bool) {
        if !self.seen.insert(path.clone()) && temp {
            return;
        }
        if temp {
            return self.temps.push(Preview::new(node, one.key, path, false));
        }
        self.saving.insert(node.to_owned());
        // Under a name that is not ours another prompt may have taken or removed it (F04).
        if !self.facts.alone && matches!(self.owner(&path), Owner::Nobody) {
            self.made.names_shared = true;
            self.made.stale.insert(node.to_owned());
        }
        self.made.missing.push(format!(
            "node {node} reported the file \"{}\", which is not in the output directory",
            shown(&one.name)
        ));
        if self.facts.cached.contains(node) {
            self.made.stale.insert(node.to_owned());
        }
    }

    /// Files with our prefixes that nobody has reported: they are the outputs of nodes that
    /// reported none, and by-products of the others.
    fn take_unreported(&mut self, saving: &HashSet<String>) {
        let claim = self.facts.claim.clone();
        let mut delivering = HashSet::new();
        let beside: Vec<_> = claim.in_folders_and(&self.names).collect();
        for (path, nodes) in beside {
            delivering.extend(self.take_one_unreported(&path, &nodes, saving));
        }
        let silent = |node: &String| !saving.contains(node) && !delivering.contains(node);
        if claim.prefixes.iter().any(|prefix| silent(&prefix.node)) {
            // It may have used another folder: a date, or one that it was told.
            for (path, nodes) in claim.anywhere() {
                self.take_one_unreported(&path, &nodes, saving);
            }
        }
    }

    /// Returns the node whose output it is.
    fn take_one_unreported(
        &mut self,
        path: &Path,
        nodes: &[String],
        saving: &HashSet<String>,
    ) -> Option<String> {
        if !self.seen.insert(path.to_path_buf()) {
            return None;
        }
        let name = file_name(path);
        let beside = |of: &PathBuf| {
            of.parent() == path.parent() && names::is_by_product(&name, &file_name(of))
        };
        let silent = nodes.iter().find(|node| !saving.contains(*node));
        match silent {
            Some(node) if !self.names.iter().any(beside) => {
                let kind = path.symlink_metadata().ok()?.file_type();
                let file = self.secured(node, "files", path, kind).ok()?;
                self.made.files.push(file);
                Some(node.clone())
            }
            _ => {
                self.facts.claim.uses_folder_of(path);
                self.cleanup.discard(path.to_path_buf());
                None
            }
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A reported name as a sentence shows it.
fn shown(name: &Name<'_>) -> String {
    let whole = match name {
        Name::File {
            filename,
            subfolder: "",
            ..
        } => (*filename).to_owned(),
        Name::File {
            filename,
            subfolder,
            ..
        } => format!("{subfolder}/{filename}"),
        Name::Text { text, .. } => (*text).to_owned(),
    };
    if whole.chars().count() <= 200 {
        return whole;
    }
    whole.chars().take(200).chain(['…']).collect()
}
