//! What the name in an `import` or `require` means. Nothing outside the workflow directory is ever
//! named.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::paths::normal;

const EXTENSIONS: [&str; 8] = ["ts", "mts", "js", "mjs", "cjs", "cts", "json", ""];

/// Node.js's modules that engine/node.js has.
const NODE_MODULES: [&str; 9] = [
    "path",
    "path/posix",
    "crypto",
    "buffer",
    "process",
    "url",
    "util",
    "timers",
    "timers/promises",
];

/// Those that need what a workflow file does not have; anything else is a package that is not
/// there.
const NODE_MODULES_WITHOUT: [&str; 29] = [
    "fs",
    "fs/promises",
    "http",
    "https",
    "http2",
    "net",
    "tls",
    "dgram",
    "dns",
    "dns/promises",
    "child_process",
    "cluster",
    "worker_threads",
    "os",
    "vm",
    "v8",
    "module",
    "stream",
    "stream/promises",
    "zlib",
    "readline",
    "repl",
    "inspector",
    "perf_hooks",
    "async_hooks",
    "events",
    "assert",
    "querystring",
    "string_decoder",
];

fn node_name(name: &str) -> &str {
    name.strip_prefix("node:").unwrap_or(name)
}

/// Resolves names inside one directory.
#[derive(Debug, Clone)]
pub struct Resolution {
    root: PathBuf,
}

impl Resolution {
    /// `root` is the workflow directory, canonical.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The id of what `name` means in the file `base`: `builtin:<name>`, or the path of a file.
    ///
    /// # Errors
    /// A sentence when there is no such module, or it lies outside.
    pub fn resolve(&self, base: &str, name: &str) -> Result<String, String> {
        if name.starts_with("builtin:") {
            return Ok(name.to_owned());
        }
        let missing = || format!("Cannot find module '{name}' imported from {base}");
        if name.starts_with('/') {
            return self.inside(Path::new(name)).ok_or_else(missing);
        }
        if name.starts_with('.') {
            let found = Path::new(base)
                .parent()
                .and_then(|folder| self.file_at(&folder.join(name)));
            return match built_in_neighbour(name) {
                // The Node server always meant its own `../config`; a user's own `./config` is the
                // user's.
                Some(id) if !name.starts_with("./") || found.is_none() => Ok(id.to_owned()),
                _ => found.ok_or_else(missing),
            };
        }
        if let Some(found) = self.package(base, name) {
            return Ok(found);
        }
        match name {
            "zod" | "zod/v3" | "zod/v4" => Ok("builtin:zod".to_owned()),
            _ if NODE_MODULES.contains(&node_name(name)) => {
                Ok(format!("builtin:node:{}", node_name(name)))
            }
            _ if NODE_MODULES_WITHOUT.contains(&node_name(name)) => Err(format!(
                "no module '{name}' here: a workflow file has no file system, network or \
                 processes; of Node's modules there are path, crypto, buffer, process, url, util, \
                 timers"
            )),
            _ => Err(format!(
                "{}: workflow files can import zod, \"../config\", \"../types\" and files of the \
                 workflow directory",
                missing()
            )),
        }
    }

    fn file_at(&self, path: &Path) -> Option<String> {
        let path = normal(path);
        if let Some(found) = self.file_like(&path) {
            return Some(found);
        }
        // TypeScript's ES modules name the file that will be compiled: "./shared.js" is shared.ts.
        let typescript = match path.extension().and_then(|extension| extension.to_str()) {
            Some("js") => Some(path.with_extension("ts")),
            Some("mjs") => Some(path.with_extension("mts")),
            _ => None,
        };
        typescript
            .and_then(|path| self.inside(&path))
            .or_else(|| self.file_like(&path.join("index")))
    }

    fn file_like(&self, path: &Path) -> Option<String> {
        if path.is_file() {
            return self.inside(path);
        }
        let name = path.file_name()?.to_str()?;
        EXTENSIONS
            .iter()
            .filter(|extension| !extension.is_empty())
            .find_map(|extension| self.inside(&path.with_file_name(format!("{name}.{extension}"))))
    }

    /// The path as an id when it is a file and really (links followed) inside the root.
    pub fn inside(&self, path: &Path) -> Option<String> {
        let path = normal(path);
        let real = path.canonicalize().ok()?;
        (path.starts_with(&self.root) && real.starts_with(&self.root) && real.is_file())
            .then(|| path.to_str().map(str::to_owned))
            .flatten()
    }

    /// A package in a `node_modules` next to the file or above it, up to the root.
    fn package(&self, base: &str, name: &str) -> Option<String> {
        let mut parts = name.splitn(if name.starts_with('@') { 3 } else { 2 }, '/');
        let mut package = parts.next()?.to_owned();
        if name.starts_with('@') {
            package = format!("{package}/{}", parts.next()?);
        }
        let subpath = parts.next().unwrap_or_default();
        if normal(Path::new(&package))
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return None;
        }
        let start = Path::new(base)
            .parent()
            .filter(|folder| folder.starts_with(&self.root))
            .unwrap_or(&self.root);
        start
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.root))
            .find_map(|folder| {
                let folder = folder.join("node_modules").join(&package);
                let described = std::fs::read(folder.join("package.json")).ok()?;
                let description: Value = serde_json::from_slice(&described).ok()?;
                self.entry_of(&folder, &description, subpath)
            })
    }

    fn entry_of(&self, folder: &Path, description: &Value, subpath: &str) -> Option<String> {
        if let Some(exports) = description.get("exports") {
            // CommonJS first: then `import` and `require` share one copy, and `config` uses it too.
            return ["require", "import"].iter().find_map(|form| {
                let target = exported(exports, subpath, form)?;
                self.file_at(&folder.join(target))
            });
        }
        if !subpath.is_empty() {
            return self.file_at(&folder.join(subpath));
        }
        ["main", "module"]
            .iter()
            .filter_map(|field| description.get(*field).and_then(Value::as_str))
            .find_map(|target| self.file_at(&folder.join(target)))
            .or_else(|| self.file_at(&folder.join("index")))
    }
}

/// The file that `exports` of a package.json gives for a subpath, under the conditions of `form`
/// (`require` or `import`).
fn exported(exports: &Value, subpath: &str, form: &str) -> Option<String> {
    let wanted = if subpath.is_empty() {
        ".".to_owned()
    } else {
        format!("./{subpath}")
    };
    let by_subpath = exports
        .as_object()
        .filter(|map| map.keys().any(|key| key.starts_with('.')));
    let Some(map) = by_subpath else {
        return if subpath.is_empty() {
            condition(exports, form)
        } else {
            None
        };
    };
    if let Some(target) = map.get(&wanted) {
        return condition(target, form);
    }
    map.iter().find_map(|(pattern, target)| {
        let (before, after) = pattern.split_once('*')?;
        let star = wanted.strip_prefix(before)?.strip_suffix(after)?;
        Some(condition(target, form)?.replace('*', star))
    })
}

fn condition(target: &Value, form: &str) -> Option<String> {
    match target {
        Value::String(path) => Some(path.clone()),
        Value::Array(list) => list.iter().find_map(|one| condition(one, form)),
        Value::Object(map) => map
            .iter()
            .filter(|(name, _)| *name == form || *name == "default")
            .find_map(|(_, one)| condition(one, form)),
        _ => None,
    }
}

/// `../config` and `../types`, from any depth and with any extension: the modules the Node server
/// had there.
fn built_in_neighbour(name: &str) -> Option<&'static str> {
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("./")) {
        rest = shorter;
    }
    let rest = rest.strip_prefix("src/").unwrap_or(rest);
    let stem = match rest.rsplit_once('.') {
        Some((stem, extension)) if EXTENSIONS.contains(&extension) => stem,
        _ => rest,
    };
    match stem {
        "config" => Some("builtin:config"),
        "types" => Some("builtin:types"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_exports_choose_by_condition_and_pattern() {
        let exports = serde_json::json!({
            ".": {"types": "./t.d.ts", "import": "./i.js", "require": "./r.cjs"},
            "./v4/locales/*": {"import": "./v4/locales/*", "require": "./c/*"},
            "./plain": "./plain.js",
        });
        assert_eq!(
            exported(&exports, "", "require").as_deref(),
            Some("./r.cjs")
        );
        assert_eq!(exported(&exports, "", "import").as_deref(), Some("./i.js"));
        assert_eq!(
            exported(&exports, "v4/locales/de.js", "require").as_deref(),
            Some("./c/de.js")
        );
        assert_eq!(
            exported(&exports, "plain", "import").as_deref(),
            Some("./plain.js")
        );
        assert_eq!(exported(&exports, "other", "import"), None);
        assert_eq!(
            exported(&serde_json::json!("./one.js"), "", "require").as_deref(),
            Some("./one.js")
        );
    }

    #[test]
    fn config_and_types_are_built_in_at_every_depth() {
        for name in [
            "../config",
            "../../config",
            "../../../config.js",
            "../config.ts",
            "./config",
            "../../src/config",
        ] {
            assert_eq!(built_in_neighbour(name), Some("builtin:config"), "{name}");
        }
        assert_eq!(built_in_neighbour("../types"), Some("builtin:types"));
        assert_eq!(built_in_neighbour("../lib/config"), None);
    }

    #[test]
    fn nothing_outside_the_directory_is_found() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.js"), "1").unwrap();
        let root = outside.path().join("workflows");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("inner.js"), "1").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.js"), root.join("linked.js"))
            .unwrap();
        let root = root.canonicalize().unwrap();
        let resolution = Resolution::new(root.clone());
        let base = root.join("a.js").display().to_string();
        assert!(resolution.resolve(&base, "./inner").is_ok());
        for name in [
            "../secret",
            "../secret.js",
            "./linked.js",
            "/etc/passwd",
            "../../../../etc/passwd",
            "fs",
            "node:fs",
            "child_process",
            "../x/../secret.js",
        ] {
            assert!(resolution.resolve(&base, name).is_err(), "{name}");
        }
    }
}
