//! The prepared files of the workflow directory, read once per load and shared by all isolates.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rquickjs::{Ctx, Exception};

use crate::workflow::resolve::Resolution;
use crate::workflow::source::{Fault, Kind, Script, prepare};

/// The largest source file that is read, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// What imported names mean, remembered at most.
const MAX_NAMES: usize = 10_000;

/// Files by id (their path).
#[derive(Debug)]
pub struct Library {
    resolution: Resolution,
    scripts: Mutex<HashMap<String, Result<Arc<Script>, Fault>>>,
    names: Mutex<HashMap<(String, String), String>>,
}

impl Library {
    /// Nothing read yet. `root` is the workflow directory, canonical.
    pub fn new(root: PathBuf) -> Self {
        Self {
            resolution: Resolution::new(root),
            scripts: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// What `name` means in the file `base`.
    ///
    /// # Errors
    /// A sentence when there is no such module.
    pub fn resolve(&self, base: &str, name: &str) -> Result<String, String> {
        let key = (base.to_owned(), name.to_owned());
        if let Some(known) = self.names.lock().get(&key) {
            return Ok(known.clone());
        }
        let found = self.resolution.resolve(base, name)?;
        // A name may be made of what a client sent: what leads nowhere is not remembered, and the
        // rest not without end.
        let mut names = self.names.lock();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(key, found.clone());
        Ok(found)
    }

    /// A file made ready.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn prepared(&self, id: &str) -> Result<Arc<Script>, Fault> {
        if let Some(known) = self.scripts.lock().get(id) {
            return known.clone();
        }
        let made = read(Path::new(id)).map(Arc::new);
        self.scripts.lock().insert(id.to_owned(), made.clone());
        made
    }

    /// The same for JavaScript, where a fault becomes an exception.
    pub fn script(&self, ctx: &Ctx<'_>, id: &str) -> rquickjs::Result<Arc<Script>> {
        if id.starts_with("builtin:") {
            return Ok(Arc::new(Script::verbatim(Kind::CommonJs, String::new())));
        }
        // Workflow files can ask for any id. What is known already was found by us, also where a
        // link leads out of the directory.
        let known = self.scripts.lock().contains_key(id);
        if !known && self.resolution.inside(Path::new(id)).is_none() {
            return Err(Exception::throw_syntax(
                ctx,
                &format!("{id} is no file of the workflow directory"),
            ));
        }
        self.prepared(id).map_err(|fault| {
            Exception::throw_syntax(
                ctx,
                &format!(
                    "{}\n    at {}:{}:{}",
                    fault.message, fault.file, fault.line, fault.column
                ),
            )
        })
    }

    /// The fault of any file that could not be prepared; the cause when an import fails.
    pub fn fault(&self, mentioned_in: &str) -> Option<Fault> {
        self.scripts
            .lock()
            .values()
            .filter_map(|script| script.as_ref().err())
            .find(|fault| mentioned_in.contains(&fault.file))
            .cloned()
    }

    /// Where the user wrote what the engine calls a line and column of the file.
    pub fn locate(&self, id: &str, line: u32, column: u32) -> Option<(u32, u32)> {
        let scripts = self.scripts.lock();
        let script = scripts.get(id)?.as_ref().ok()?;
        let shift = if script.kind == Kind::CommonJs && line == 1 {
            super::WRAPPER_PREFIX_LENGTH
        } else {
            0
        };
        Some(script.locate(line, column.saturating_sub(shift).max(1)))
    }
}

fn read(path: &Path) -> Result<Script, Fault> {
    let size = std::fs::metadata(path)
        .map_err(|error| Fault::of_file(path, error.to_string()))?
        .len();
    if size > MAX_FILE {
        return Err(Fault::of_file(
            path,
            format!("the file is larger than {} MiB", MAX_FILE / 1024 / 1024),
        ));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| Fault::of_file(path, error.to_string()))?;
    if !path
        .components()
        .any(|part| part.as_os_str() == "node_modules")
    {
        return prepare(path, &text);
    }
    // Packages are compiled already; parsing them again would only cost time.
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Kind::Json,
        Some("mjs") => Kind::Esm,
        Some("cjs") => Kind::CommonJs,
        Some("ts" | "mts" | "cts") => return prepare(path, &text),
        _ if is_module_package(path) => Kind::Esm,
        _ => Kind::CommonJs,
    };
    Ok(Script::verbatim(kind, text))
}

/// Whether the nearest package.json says `"type": "module"`.
fn is_module_package(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .take_while(|folder| {
            folder
                .file_name()
                .is_some_and(|name| name != "node_modules")
        })
        .find_map(|folder| std::fs::read(folder.join("package.json")).ok())
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .is_some_and(|description| {
            description.get("type").and_then(serde_json::Value::as_str) == Some("module")
        })
}
