//! Files of this machine as arguments: handed in to the server and replaced by the asset that they
//! become there. Only files in the directories of `--files`, after all links.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use url::Url;

use super::forward::Server;
use super::graphs;
use crate::media;

/// Said of arguments that take media (see the server's tools).
const MARK: &str = "`input` of create_upload";

/// The directories of `--files`.
#[derive(Debug)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// With all links resolved.
    ///
    /// # Errors
    /// When one is not there.
    pub fn open(folders: &[PathBuf]) -> Result<Self, String> {
        let resolved = folders.iter().map(|folder| {
            let found = folder
                .canonicalize()
                .map_err(|error| format!("--files {}: {error}", folder.display()))?;
            if found.is_dir() {
                Ok(found)
            } else {
                Err(format!("--files {}: it is no directory", folder.display()))
            }
        });
        resolved.collect::<Result<_, String>>().map(Self)
    }

    /// Nothing may be read or written.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path, after all links, lies in one of them.
    fn holds(&self, resolved: &Path) -> bool {
        self.0.iter().any(|folder| resolved.starts_with(folder))
    }

    /// A directory to write into.
    ///
    /// # Errors
    /// When it is not there, or not inside.
    pub fn to_write(&self, directory: &str) -> Result<PathBuf, String> {
        let wanted = self
            .find(Path::new(directory))
            .unwrap_or_else(|| PathBuf::from(directory));
        let resolved = wanted
            .canonicalize()
            .map_err(|error| format!("{directory}: {error}"))?;
        if !resolved.is_dir() {
            return Err(format!("{directory} is no directory"));
        }
        if self.holds(&resolved) {
            return Ok(resolved);
        }
        Err(format!(
            "{directory} is not in a directory that was given with --files"
        ))
    }

    /// A path as it is, or below one of the directories.
    fn find(&self, path: &Path) -> Option<PathBuf> {
        if path.exists() {
            return Some(path.to_path_buf());
        }
        let mut below = self.0.iter().map(|folder| folder.join(path));
        below.find(|path| path.exists())
    }

    /// Hands in the files that the arguments of a call name.
    ///
    /// # Errors
    /// When one may not be read, or the server does not take it.
    pub async fn hand_in(&self, server: &Server, message: &mut Value) -> Result<(), String> {
        let tool = message.pointer("/params/name").and_then(Value::as_str);
        let tool = tool.unwrap_or_default().to_owned();
        let Some(arguments) = message
            .pointer_mut("/params/arguments")
            .and_then(Value::as_object_mut)
        else {
            return Ok(());
        };
        let mut texts = Vec::new();
        // A graph that is given as text goes on as text, but for files in it.
        let read = (tool == "run_graph")
            .then(|| graphs::read(arguments))
            .flatten();
        if tool == "run_graph" {
            graphs::inputs(arguments, &mut texts);
        } else if arguments.values().any(may_be_a_path) {
            let media = media_arguments(server, &tool).await?;
            for (name, value) in arguments.iter_mut() {
                if media.contains(name) {
                    graphs::texts(value, &mut texts);
                }
            }
        }
        let mut handed_in = 0_usize;
        for text in texts {
            let Value::String(given) = text else { continue };
            if let Some(path) = self.named(given, tool == "run_graph")? {
                let id = hand_in_one(server, &path).await?;
                *given = format!("asset:{id}");
                handed_in += 1;
            }
        }
        if let Some(text) = read.filter(|_| handed_in == 0) {
            arguments.insert("graph".to_owned(), text);
        }
        Ok(())
    }

    /// The file that a value names, if it names one of this machine. A plain name may be a file
    /// that the server has, and a text of a graph may be anything.
    fn named(&self, given: &str, in_a_graph: bool) -> Result<Option<PathBuf>, String> {
        let by_uri = given
            .get(..5)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("file:"));
        if !by_uri && is_elsewhere(given) {
            return Ok(None);
        }
        let path = if by_uri {
            Url::parse(given)
                .ok()
                .and_then(|uri| uri.to_file_path().ok())
                .ok_or_else(|| format!("{given} is no file of this machine (see --files)"))?
        } else {
            expanded(given)
        };
        let found = self.find(&path).filter(|path| path.is_file());
        let is_path = path.is_absolute() || given.starts_with('.');
        let must_be_here = by_uri || is_path && !in_a_graph;
        let Some(found) = found else {
            return match (must_be_here, self.is_empty()) {
                (false, _) => Ok(None),
                (true, true) => Err(refusal(given)),
                (true, false) => Err(format!(
                    "there is no file {given} in the directories of --files"
                )),
            };
        };
        let resolved = found
            .canonicalize()
            .map_err(|error| format!("{given}: {error}"))?;
        if self.holds(&resolved) {
            return Ok(Some(resolved));
        }
        if by_uri || is_path || given.contains('/') {
            return Err(refusal(given));
        }
        Ok(None)
    }
}

fn refusal(given: &str) -> String {
    format!(
        "{given} is a file of this machine that may not be read: start the bridge with --files \
         and the directory that it is in"
    )
}

/// What is no path: an address, embedded bytes, an asset.
fn is_elsewhere(given: &str) -> bool {
    given.is_empty()
        || given.len() > 4096
        || given.contains("://")
        || given.contains('\n')
        || given.starts_with("data:")
        || given.starts_with("asset:")
}

fn expanded(given: &str) -> PathBuf {
    match (given.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(given),
    }
}

fn may_be_a_path(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("file:") || !is_elsewhere(text),
        Value::Array(items) => items.iter().any(may_be_a_path),
        _ => false,
    }
}

/// The arguments of a tool that take media.
async fn media_arguments(server: &Server, tool: &str) -> Result<Vec<String>, String> {
    let mut params = Map::new();
    loop {
        let page = server.ask("tools/list", params).await?;
        let tools = page.get("tools").and_then(Value::as_array);
        let found = tools
            .into_iter()
            .flatten()
            .find(|one| one.get("name").and_then(Value::as_str) == Some(tool));
        if let Some(found) = found {
            let properties = found
                .pointer("/inputSchema/properties")
                .and_then(Value::as_object);
            let takes_media = |property: &Value| {
                let about = property.get("description").and_then(Value::as_str);
                about.is_some_and(|about| about.contains(MARK))
            };
            return Ok(properties
                .into_iter()
                .flatten()
                .filter(|(_, property)| takes_media(property))
                .map(|(name, _)| name.clone())
                .collect());
        }
        match page.get("nextCursor") {
            Some(next) => params = Map::from_iter([("cursor".to_owned(), next.clone())]),
            None => return Ok(Vec::new()),
        }
    }
}

async fn hand_in_one(server: &Server, path: &Path) -> Result<String, String> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (looked_at, called) = (path.to_path_buf(), name.clone());
    let kind = tokio::task::spawn_blocking(move || {
        media::head(&looked_at).map(|head| media::content_type(&called, &head))
    });
    let kind = kind
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    server.upload(path, &name, &kind).await
}
