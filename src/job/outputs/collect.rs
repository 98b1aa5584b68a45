//! Finds the files and texts that a prompt has made, and takes the files into its own folder (prompt.md, section 4; F04, F09, U1).

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::cleanup::{Claim, Owner};
use super::super::preprocess::names;
use super::place::{Place, Roots};
use super::reported::{Name, Reported, reported};
use super::{FileCleanup, OutputFile};

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

/// A file that ComfyUI can be asked for.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub node: String,
    pub key: String,
    pub filename: String,
    pub subfolder: String,
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

/// Reads what the nodes of a run have reported, and what they have written without that. Every file of theirs is added to
/// `cleanup`. Looks at files: for a blocking thread.
pub fn collect(outputs: &[NodeOutput], facts: &RunFacts, cleanup: &FileCleanup) -> Collected {
    let mut collecting = Collecting {
        facts,
        cleanup,
        roots: Roots {
            output: &facts.claim.output_dir,
            temp: &facts.claim.temp_dir,
        },
        seen: HashSet::new(),
        names: Vec::new(),
        saving: HashSet::new(),
        temps: Vec::new(),
        made: Collected::default(),
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
}

/// A file of type `temp` that was reported.
struct Preview {
    node: String,
    key: String,
    path: PathBuf,
    there: bool,
}

impl Collecting<'_> {
    fn take(&mut self, node: &str, one: &Reported<'_>) {
        let place = self.roots.find(&one.name);
        let as_text = matches!(one.name, Name::Text { .. });
        match place {
            Place::Nothing => {}
            Place::Outside => self.made.missing.push(format!(
                "node {node} reported the file \"{}\", which lies outside of the output directory; it is not delivered",
                shown(&one.name)
            )),
            Place::Found { path, temp } => {
                if !self.seen.insert(path.clone()) {
                    self.saving.extend((!temp).then(|| node.to_owned()));
                } else if temp {
                    self.temps.push(Preview::new(node, one.key, path, true));
                } else {
                    self.take_output(node, one, path, as_text);
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

    fn take_output(&mut self, node: &str, one: &Reported<'_>, path: PathBuf, as_text: bool) {
        match self.owner(&path) {
            Owner::Another if as_text => return,
            Owner::Another => {
                let sentence = format!(
                    "node {node} reported the file \"{}\", which another prompt is making; it is not delivered",
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
        match self.secured(node, one.key, &path) {
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
        self.made.missing.push(format!(
            "node {node} reported the file \"{}\", which is not in the output directory",
            shown(&one.name)
        ));
        if self.facts.cached.contains(node) {
            self.made.stale.insert(node.to_owned());
        }
    }

    /// By the name of the file itself, wherever links lead.
    fn owner(&self, path: &Path) -> Owner {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = |path: &Path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned)
        };
        let owner =
            |path: &Path| name(path).map_or(Owner::Nobody, |name| self.facts.claim.owner(&name));
        match owner(&real) {
            Owner::Nobody => owner(path),
            owner => owner,
        }
    }

    fn is_ours(&self, path: &Path) -> bool {
        matches!(self.owner(path), Owner::Ours(_))
    }

    /// Takes a file into our folder and describes it.
    fn secured(&mut self, node: &str, key: &str, path: &Path) -> io::Result<OutputFile> {
        if !path.metadata()?.is_file() {
            if !path.is_dir() {
                self.cleanup.discard(path.to_path_buf());
            }
            return Err(io::Error::other("it is not a file"));
        }
        self.facts.claim.uses_folder_of(path);
        self.names.push(path.to_path_buf());
        let mut file = OutputFile {
            node_id: Some(node.to_owned()),
            output: key.to_owned(),
            filename: file_name(path),
            content_type: String::new(),
            size: 0,
            path: self.secure(path)?,
            written_to: path.to_path_buf(),
        };
        file.look()?;
        Ok(file)
    }

    /// Where nothing can be moved, a file that bears our name is ours where it is.
    fn secure(&self, path: &Path) -> io::Result<PathBuf> {
        match self.cleanup.secure(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && self.is_ours(path) => {
                self.cleanup.add(path.to_path_buf());
                Ok(path.to_path_buf())
            }
            secured => secured,
        }
    }

    /// Files with our prefixes that nobody has reported: they are the outputs of nodes that reported none, and by-products of the
    /// others.
    fn take_unreported(&mut self, saving: &HashSet<String>) {
        let claim = self.facts.claim.clone();
        let mut delivering = HashSet::new();
        let mut folders: Vec<PathBuf> = self
            .names
            .iter()
            .filter_map(|path| path.parent())
            .map(Path::to_path_buf)
            .collect();
        folders.sort();
        folders.dedup();
        let beside: Vec<_> = folders
            .iter()
            .flat_map(|folder| claim.files_in(folder))
            .collect();
        let in_folders: Vec<_> = claim.in_folders().collect();
        for (path, nodes) in in_folders.into_iter().chain(beside) {
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
                let file = self.secured(node, "files", path).ok()?;
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

    /// Previews are delivered where there is nothing better, and removed in any case.
    fn take_previews(&mut self) {
        let wanted = self.made.files.is_empty() && !self.facts.has_files;
        let claim = &self.facts.claim;
        let mut by_products: Vec<PathBuf> = Vec::new();
        for (path, _) in claim.files_in(&claim.temp_dir) {
            by_products.push(path);
        }
        for preview in std::mem::take(&mut self.temps) {
            let Preview {
                node,
                key,
                path,
                there,
            } = preview;
            // What an earlier run has made is that prompt's to deliver and to remove.
            if self.facts.cached.contains(&node) {
                if wanted {
                    self.made.stale.insert(node);
                }
                continue;
            }
            by_products.extend(beside(&path));
            by_products.retain(|other| *other != path);
            if !wanted {
                self.cleanup.discard(path);
                continue;
            }
            if !self.certain(&node, &path) {
                self.made.names_shared = true;
                self.made.stale.insert(node);
                continue;
            }
            if !there {
                self.made.elsewhere.push(self.elsewhere(node, key, &path));
                continue;
            }
            match self.secured(&node, &key, &path) {
                Ok(file) => self.made.previews.push(file),
                Err(error) => {
                    self.made.missing.push(format!(
                        "node {node} reported the file \"{}\", which cannot be read: {error}",
                        file_name(&path)
                    ));
                }
            }
        }
        by_products
            .into_iter()
            .for_each(|path| self.cleanup.discard(path));
    }

    /// Whether nobody else can have written a temporary file: it bears our prefix, its class makes up names, or nobody else ran.
    fn certain(&self, node: &str, path: &Path) -> bool {
        let class = self
            .facts
            .graph
            .get(node)
            .and_then(|node| node.get("class_type"));
        let class = class.and_then(Value::as_str).unwrap_or_default();
        match self.owner(path) {
            Owner::Ours(_) => true,
            Owner::Another => false,
            Owner::Nobody => self.facts.alone || !names::may_share_names(class),
        }
    }

    fn elsewhere(&self, node: String, key: String, path: &Path) -> Elsewhere {
        let relative = path.strip_prefix(self.roots.temp).unwrap_or(path);
        let subfolder = relative.parent().unwrap_or(Path::new(""));
        Elsewhere {
            node,
            key,
            filename: file_name(path),
            subfolder: subfolder.to_string_lossy().into_owned(),
        }
    }
}

impl Preview {
    fn new(node: &str, key: &str, path: PathBuf, there: bool) -> Self {
        Self {
            node: node.to_owned(),
            key: key.to_owned(),
            path,
            there,
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The by-products of a temporary file: a video's still beside it.
fn beside(path: &Path) -> Vec<PathBuf> {
    let name = file_name(path);
    if names::stem(&name).is_none() {
        return Vec::new();
    }
    let entries = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| names::is_by_product(&file_name(path), &name))
        .collect()
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

/// The texts of a node that returned text instead of files.
fn take_texts(texts: &mut Map<String, Value>, node: &str, output: &Value) {
    let strings: Vec<Value> = output
        .as_object()
        .into_iter()
        .flat_map(|output| output.values())
        .filter_map(Value::as_array)
        .filter(|list| !list.is_empty() && list.iter().all(Value::is_string))
        .flatten()
        .cloned()
        .collect();
    if !strings.is_empty()
        && let Some(known) = texts
            .entry(node)
            .or_insert_with(|| Value::Array(Vec::new()))
            .as_array_mut()
    {
        known.extend(strings);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::cleanup::{Claims, Cleaner, Prefix};
    use super::*;

    struct Stage {
        home: tempfile::TempDir,
        claims: Claims,
    }

    impl Stage {
        fn new(files: &[&str]) -> Self {
            let stage = Self {
                home: tempfile::tempdir().unwrap(),
                claims: Claims::default(),
            };
            std::fs::create_dir_all(stage.home.path().join("temp")).unwrap();
            stage.write(files);
            stage
        }

        fn write(&self, files: &[&str]) {
            for name in files {
                let path = self.home.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
        }

        fn facts(&self, graph: Value) -> RunFacts {
            let nodes = graph.as_object().unwrap();
            let prefixes = nodes.iter().filter_map(|(node, about)| {
                Some(Prefix::new(
                    node,
                    about["inputs"]["filename_prefix"].as_str()?,
                    "id",
                ))
            });
            let (output, temp) = (
                self.home.path().join("output"),
                self.home.path().join("temp"),
            );
            RunFacts {
                claim: Arc::new(self.claims.open(
                    prefixes.collect(),
                    &output,
                    &temp,
                    Arc::default(),
                )),
                graph: Arc::new(nodes.clone()),
                cached: HashSet::new(),
                alone: true,
                has_files: false,
                goes_on: false,
            }
        }

        fn collect(&self, facts: &RunFacts, outputs: &Value) -> (Collected, FileCleanup) {
            let cleanup = FileCleanup::new(Cleaner::default(), facts.claim.clone());
            let outputs = outputs.as_object().unwrap().iter();
            let outputs: Vec<NodeOutput> = outputs
                .map(|(node, output)| NodeOutput {
                    node: node.clone(),
                    output: output.clone(),
                })
                .collect();
            (collect(&outputs, facts, &cleanup), cleanup)
        }

        fn left(&self) -> Vec<String> {
            let home = self.home.path();
            let mut left: Vec<String> = ["output", "temp"]
                .iter()
                .flat_map(|dir| {
                    super::super::super::cleanup::files_below(&home.join(dir), |_| true)
                })
                .map(|path| path.strip_prefix(home).unwrap().display().to_string())
                .collect();
            left.sort();
            left
        }
    }

    fn found(files: &[OutputFile]) -> Vec<(String, String, String)> {
        files
            .iter()
            .map(|file| {
                let content = std::fs::read_to_string(&file.path).unwrap();
                let node = file.node_id.clone().unwrap_or_default();
                assert!(content.ends_with(&file.filename), "{content}");
                (node, file.output.clone(), file.filename.clone())
            })
            .collect()
    }

    fn named(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        list.iter()
            .map(|(node, key, name)| ((*node).into(), (*key).into(), (*name).into()))
            .collect()
    }

    /// F09: everything reported once and nothing else; what is old or another's stays.
    #[test]
    fn every_reported_file_once_and_nothing_else() {
        let stage = Stage::new(&["output/id_model_00001_.safetensors"]);
        let facts = stage.facts(json!({
            "21": {"inputs": {"filename_prefix": "id_model"}},
            "22": {"inputs": {"filename_prefix": "id_model"}},
        }));
        let theirs = vec![Prefix::new("1", "id_x_b", "id_x")];
        let output = facts.claim.output_dir.clone();
        let other = stage
            .claims
            .open(theirs, &output, &facts.claim.temp_dir, Arc::default());
        stage.write(&[
            "output/a.png",
            "output/b.png",
            "output/video/v.mp4",
            "output/id_x_b_1.png",
            "temp/t.png",
            "output/id_model_00002_.safetensors",
            "output/untyped.png",
            "output/3d/x.glb",
        ]);
        std::os::unix::fs::symlink("/etc/passwd", output.join("link.png")).unwrap();
        let file = |name: &str, sub: &str, kind: &str| json!({"filename": name, "subfolder": sub, "type": kind, "extra": null});
        let (collected, cleanup) = stage.collect(&facts, &json!({
            "9": {"images": [file("a.png", "", "output"), file("b.png", "", "output")], "animated": [true], "odd": 5},
            "8": {"images": [file("a.png", "", "output")]},
            "7": {"gifs": [file("v.mp4", "video", "output")], "text": ["not told: this node has files"]},
            "6": {"images": [file("t.png", "", "temp"), {"filename": "untyped.png"}]},
            "5": {"text": ["hello", "you"]},
            "4": {"images": [file("passwd", "../../etc", "output"), file("../../a.png", "", "output"), file("link.png", "", "output"),
                file("gone.png", "", "output"), file("passwd", "/etc", "output"), file("id_x_b_1.png", "", "output")]},
            "3": null,
            "2": {"result": ["3d/x.glb", {"camera": 1}, null]},
        }));
        assert_eq!(
            found(&collected.files),
            named(&[
                ("9", "images", "a.png"),
                ("9", "images", "b.png"),
                ("7", "gifs", "v.mp4"),
                ("6", "images", "untyped.png"),
                ("2", "result", "x.glb"),
                ("21", "files", "id_model_00002_.safetensors"),
            ])
        );
        assert_eq!(
            Value::Object(collected.texts.clone()),
            json!({"5": ["hello", "you"]})
        );
        assert_eq!(collected.missing.len(), 6, "{:?}", collected.missing);
        assert!(collected.previews.is_empty() && collected.stale.is_empty());
        drop((other, cleanup, facts));
        let stays = [
            "output/id_model_00001_.safetensors",
            "output/id_x_b_1.png",
            "output/link.png",
        ];
        assert_eq!(stage.left(), stays);
        assert!(!output.join("video").exists() && !output.join("3d").exists());
    }

    /// F09: files that were written but not reported.
    #[test]
    fn what_silent_nodes_wrote_is_delivered_and_by_products_are_not() {
        let stage = Stage::new(&[]);
        let facts = stage.facts(json!({
            "1": {"inputs": {"filename_prefix": "id_text"}},
            "2": {"inputs": {"filename_prefix": "v/id_clip"}},
            "3": {"inputs": {"filename_prefix": "id_away"}},
            "4": {"inputs": {"filename_prefix": "id_text_mask"}},
        }));
        stage.write(&[
            "output/id_text.txt",
            "output/id_text_0001.glb",
            "output/id_text_x_00001_.png",
            "output/id_text_mask_1.png",
            "output/v/id_clip_00001-audio.mp4",
            "output/v/id_clip_00001.mp4",
            "output/v/id_clip_notes.json",
            "output/2026/11/id_away.png",
            "output/other.png",
        ]);
        let (collected, cleanup) = stage.collect(&facts, &json!({
            "1": {"text": ["saved"], "images": []},
            "2": {"gifs": [{"filename": "id_clip_00001-audio.mp4", "subfolder": "v", "type": "output"}]},
            "4": {"result": ["id_text_mask_1.png", 5]},
        }));
        assert_eq!(
            found(&collected.files),
            named(&[
                ("2", "gifs", "id_clip_00001-audio.mp4"),
                ("4", "result", "id_text_mask_1.png"),
                ("1", "files", "id_text.txt"),
                ("1", "files", "id_text_0001.glb"),
                ("1", "files", "id_text_x_00001_.png"),
                ("3", "files", "id_away.png"),
            ])
        );
        assert_eq!(Value::Object(collected.texts), json!({"1": ["saved"]}));
        drop((cleanup, facts));
        assert_eq!(stage.left(), ["output/other.png"]);
        assert!(!stage.home.path().join("output/2026").exists());
    }

    /// F04: in doubt about who made a file the node runs anew; U1 and F21: previews.
    #[test]
    fn previews_and_files_of_uncertain_origin() {
        let stage = Stage::new(&[
            "output/result.png",
            "temp/a.png",
            "temp/clip_00001.mp4",
            "temp/clip_00001.png",
        ]);
        let graph = json!({"1": {"class_type": "Fixed"}, "2": {"class_type": "PreviewImage"}, "3": {"class_type": "Clip"}});
        let fixed = json!({"1": {"images": [{"filename": "result.png"}]}});
        let preview = json!({"2": {"images": [{"filename": "a.png", "type": "temp"}]},
            "3": {"gifs": [{"filename": "clip_00001.mp4", "type": "temp"}, {"filename": "gone.mp4", "subfolder": "s", "type": "temp"}]}});
        let facts = stage.facts(graph);
        let shared = RunFacts {
            alone: false,
            ..facts.clone()
        };
        let cached = RunFacts {
            cached: ["1".to_owned(), "2".to_owned()].into(),
            ..facts.clone()
        };
        let (collected, _) = stage.collect(&shared, &fixed);
        assert!(
            collected.names_shared && collected.files.is_empty() && collected.stale.contains("1")
        );
        let (collected, _) = stage.collect(&cached, &fixed);
        assert!(
            !collected.names_shared && collected.files.is_empty() && collected.stale.contains("1")
        );
        let (collected, _) = stage.collect(&cached, &preview);
        assert_eq!(collected.stale, ["2".to_owned()].into());
        assert!(stage.left().contains(&"temp/a.png".to_owned()));
        stage.write(&["temp/clip_00001.mp4", "temp/clip_00001.png"]);
        let (collected, cleanup) = stage.collect(&facts, &preview);
        assert_eq!(
            found(&collected.previews),
            named(&[("2", "images", "a.png"), ("3", "gifs", "clip_00001.mp4")])
        );
        assert_eq!(
            (
                collected.elsewhere[0].subfolder.as_str(),
                collected.elsewhere[0].filename.as_str()
            ),
            ("s", "gone.mp4")
        );
        drop(cleanup);
        assert_eq!(stage.left(), ["output/result.png"]);
        let (collected, cleanup) = stage.collect(&facts, &fixed);
        assert_eq!(
            found(&collected.files),
            named(&[("1", "images", "result.png")])
        );
        drop(cleanup);
        assert!(stage.left().is_empty());
    }
}
