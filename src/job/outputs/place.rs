//! Where a file that was reported is: below ComfyUI's output or temp directory, by its text and by
//! where links lead (F09).

use std::fs::FileType;
use std::path::{Path, PathBuf};

use super::reported::Name;
use crate::paths::normal;

/// ComfyUI's directories.
#[derive(Debug)]
pub struct Roots<'a> {
    pub output: &'a Path,
    pub temp: &'a Path,
}

/// Where a reported file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// It is there; `kind` is its own, not that of what a link leads to.
    Found {
        path: PathBuf,
        temp: bool,
        kind: FileType,
    },
    /// It should be there.
    Missing { path: PathBuf, temp: bool },
    /// It would lie outside of the directories.
    Outside,
    /// An input, or no file at all.
    Nothing,
}

impl Roots<'_> {
    /// Finds a file. Blocks.
    pub fn find(&self, name: &Name<'_>) -> Place {
        match *name {
            Name::File {
                filename,
                subfolder,
                kind,
            } => match kind {
                None | Some("output") => self.find_file(filename, subfolder, false),
                Some("temp") => self.find_file(filename, subfolder, true),
                Some(_) => Place::Nothing,
            },
            Name::Text { text, .. } => self.find_text(text),
        }
    }

    fn find_file(&self, filename: &str, subfolder: &str, temp: bool) -> Place {
        if filename.is_empty() || filename.contains('\0') || subfolder.contains('\0') {
            return Place::Outside;
        }
        let (filename, subfolder) = (filename.replace('\\', "/"), subfolder.replace('\\', "/"));
        let name = Path::new(&filename);
        if name.is_absolute() {
            return self.first(vec![self.as_we_name_it(name)], temp);
        }
        let root = if temp { self.temp } else { self.output };
        let folder = self.as_we_name_it(Path::new(&subfolder));
        let folder = if folder.is_absolute() && self.holds(&folder) {
            folder
        } else {
            root.join(subfolder.trim_start_matches('/'))
        };
        let mut places = vec![folder.join(name)];
        if filename.contains('/') {
            // Both fields may repeat the folder.
            places.push(root.join(name));
            places.extend(name.file_name().map(|name| folder.join(name)));
        }
        self.first(places, temp)
    }

    /// The first of some places at which there is something.
    fn first(&self, places: Vec<PathBuf>, temp: bool) -> Place {
        let places: Vec<PathBuf> = places.iter().map(|path| normal(path)).collect();
        if places.first().is_none_or(|first| !self.holds(first)) {
            return Place::Outside;
        }
        let inside: Vec<&PathBuf> = places.iter().filter(|path| self.holds(path)).collect();
        let there = inside.iter().find_map(|path| {
            let about = path.symlink_metadata().ok()?;
            Some((*path, about.file_type()))
        });
        match (there, inside.first()) {
            (Some((path, kind)), _) if !self.stays_inside(path, kind) => Place::Outside,
            (Some((path, kind)), _) => Place::Found {
                path: PathBuf::clone(path),
                temp: self.is_temp(path),
                kind,
            },
            (None, Some(path)) => Place::Missing {
                path: PathBuf::clone(path),
                temp,
            },
            (None, None) => Place::Outside,
        }
    }

    /// A text is a file only if there is one; else it would be one if it were there.
    fn find_text(&self, text: &str) -> Place {
        let text = text.replace('\\', "/");
        let path = self.as_we_name_it(&self.output.join(&text));
        if !self.holds(&path) || path == self.output || path == self.temp {
            return Place::Nothing;
        }
        let temp = self.is_temp(&path);
        let kind = path.symlink_metadata().map(|about| about.file_type());
        match kind {
            Ok(kind) if path.is_file() && self.stays_inside(&path, kind) => {
                Place::Found { path, temp, kind }
            }
            Err(_) if path.extension().is_some() => Place::Missing { path, temp },
            _ => Place::Nothing,
        }
    }

    /// An absolute path under the name by which we know the directory: ComfyUI may follow other
    /// links to it.
    fn as_we_name_it(&self, path: &Path) -> PathBuf {
        let path = normal(path);
        if path.is_absolute() && !self.holds(&path) {
            for root in [self.output, self.temp] {
                let real = root.canonicalize();
                if let Some(rest) = real.ok().and_then(|real| path.strip_prefix(real).ok()) {
                    return root.join(rest);
                }
            }
        }
        path
    }

    fn holds(&self, path: &Path) -> bool {
        path.starts_with(self.output) || path.starts_with(self.temp)
    }

    /// The directory that lies deeper counts, if one is below the other.
    fn is_temp(&self, path: &Path) -> bool {
        path.starts_with(self.temp)
            && (!path.starts_with(self.output) || self.temp.starts_with(self.output))
    }

    /// Whether it is still inside when links have been followed.
    fn stays_inside(&self, path: &Path, kind: FileType) -> bool {
        let lies_in = path.parent();
        if [self.output, self.temp].map(Some).contains(&lies_in) && !kind.is_symlink() {
            return true;
        }
        let Ok(real) = path.canonicalize() else {
            return true;
        };
        let roots = [self.output, self.temp].map(Path::canonicalize);
        let mut roots = roots.iter().flatten();
        roots.any(|root| real.starts_with(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn files_are_found_as_comfyui_finds_them() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (output, temp) = (home.join("output"), home.join("temp"));
        for dir in [output.join("sub/er"), temp.clone()] {
            std::fs::create_dir_all(dir).unwrap();
        }
        for file in [
            "output/a.txt",
            "output/sub/b.txt",
            "output/sub/er/c.txt",
            "temp/t.png",
        ] {
            std::fs::write(home.join(file), "x").unwrap();
        }
        std::fs::write(home.join("secret.txt"), "x").unwrap();
        std::os::unix::fs::symlink(home.join("secret.txt"), output.join("link.txt")).unwrap();
        let roots = Roots {
            output: &output,
            temp: &temp,
        };
        let absolute = |name: &str| home.join(name).display().to_string();
        let (sub, far) = (absolute("output/sub"), absolute("secret.txt"));
        let found = |name: &str, temp| Place::Found {
            path: home.join(name),
            temp,
            kind: home.join(name).symlink_metadata().unwrap().file_type(),
        };
        for (filename, subfolder, kind, place) in [
            ("a.txt", "", None, found("output/a.txt", false)),
            ("sub/b.txt", "", None, found("output/sub/b.txt", false)),
            ("sub\\b.txt", "", None, found("output/sub/b.txt", false)),
            ("b.txt", "/sub", None, found("output/sub/b.txt", false)),
            (
                "b.txt",
                &sub,
                Some("output"),
                found("output/sub/b.txt", false),
            ),
            ("er/c.txt", "sub", None, found("output/sub/er/c.txt", false)),
            ("sub/b.txt", "sub", None, found("output/sub/b.txt", false)),
            (
                &absolute("temp/t.png"),
                "",
                Some("output"),
                found("temp/t.png", true),
            ),
            ("t.png", "", Some("temp"), found("temp/t.png", true)),
            ("t.png", "", Some("input"), Place::Nothing),
            ("../secret.txt", "", None, Place::Outside),
            ("secret.txt", "..", None, Place::Outside),
            (&far, "", None, Place::Outside),
            ("link.txt", "", None, Place::Outside),
            ("", "", None, Place::Outside),
        ] {
            let name = Name::File {
                filename,
                subfolder,
                kind,
            };
            assert_eq!(roots.find(&name), place, "{name:?}");
        }
        for (text, expected) in [
            ("sub/b.txt", found("output/sub/b.txt", false)),
            (&absolute("output/a.txt"), found("output/a.txt", false)),
            (&absolute("temp/t.png"), found("temp/t.png", true)),
            (&far, Place::Nothing),
            ("sub", Place::Nothing),
            ("a word", Place::Nothing),
            ("..", Place::Nothing),
            ("link.txt", Place::Nothing),
            (
                "3d/gone.glb",
                Place::Missing {
                    path: output.join("3d/gone.glb"),
                    temp: false,
                },
            ),
        ] {
            let name = Name::Text { text, mixed: false };
            assert_eq!(roots.find(&name), expected, "{text}");
        }
    }
}
