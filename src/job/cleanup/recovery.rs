//! At the start: what processes that were killed have left of their prompts is removed (A44).
//! Nothing that was there before such a prompt, or that a living process has in flight, is touched.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tracing::info;

use super::super::outputs::{Name, Place, Roots, reported};
use super::going_on::GoingOn;
use super::journal::{DeadFolder, Journal, Noted, Process, Record};
use super::walk::files_below;
use super::{Claims, Prefix};

/// What is left to do for dead processes: ComfyUI may still have their prompts.
#[derive(Debug, Default)]
pub struct Leftovers {
    dead: Vec<Dead>,
    living: Vec<Prefix>,
    claims: Claims,
}

/// A dead process, whose folder we hold.
#[derive(Debug)]
struct Dead {
    folder: Arc<DeadFolder>,
    prompts: Vec<Noted>,
}

/// Removes the files of dead processes, but for those prompts that `goes_on` names (by the caller's
/// id) and that a ComfyUI may still have: they are the second part of the answer. Blocks.
pub fn remove_files_of_the_dead(
    journal: &Journal,
    claims: &Claims,
    goes_on: &HashSet<String>,
) -> (Leftovers, Vec<GoingOn>) {
    let mut leftovers = Leftovers {
        claims: claims.clone(),
        ..Leftovers::default()
    };
    let mut going_on = Vec::new();
    for process in journal.others() {
        match process {
            Process::Living(prompts) => {
                let records = prompts.into_iter().flat_map(|noted| noted.records);
                leftovers.living.extend(records.flat_map(prefixes));
            }
            Process::Dead { folder, prompts } => {
                let mut rest = Vec::new();
                for noted in prompts {
                    match GoingOn::of(noted, &folder, goes_on) {
                        Ok(one) => going_on.push(one),
                        Err(noted) => rest.push(noted),
                    }
                }
                let prompts = rest;
                leftovers.dead.push(Dead { folder, prompts });
            }
        }
    }
    let theirs = going_on.iter().flat_map(GoingOn::prefixes);
    leftovers.living.extend(theirs.cloned());
    let prompts = leftovers
        .dead
        .iter()
        .map(|dead| dead.prompts.len())
        .sum::<usize>();
    if prompts > 0 {
        info!(
            prompts,
            "removing what a killed server has left of its prompts"
        );
    }
    leftovers.remove_files();
    (leftovers, going_on)
}

fn prefixes(record: Record) -> Vec<Prefix> {
    match record {
        Record::Outputs { prefixes, .. } => prefixes,
        _ => Vec::new(),
    }
}

impl Leftovers {
    /// ComfyUI's ids of the runs that nobody follows any more.
    pub fn runs(&self) -> Vec<String> {
        let ids = self.records().filter_map(|record| match record {
            Record::Run { id } => Some(id.clone()),
            _ => None,
        });
        ids.collect()
    }

    /// ComfyUI's temp directories, as the dead knew them.
    pub fn temp_dirs(&self) -> HashSet<PathBuf> {
        let dirs = self.records().filter_map(|record| match record {
            Record::Outputs { temp_dir, .. } => Some(temp_dir.clone()),
            _ => None,
        });
        dirs.collect()
    }

    /// ComfyUI has let go of the runs: what they wrote meanwhile goes too, and nothing is
    /// remembered of the dead. Blocks.
    pub fn finish(self) {
        self.remove_files();
        for dead in &self.dead {
            for noted in &dead.prompts {
                dead.folder.forget(&noted.path);
            }
            dead.folder.remove_if_empty();
        }
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.dead
            .iter()
            .flat_map(|dead| dead.prompts.iter().flat_map(|noted| &noted.records))
    }

    fn remove_files(&self) {
        let mut written: HashMap<&Path, Vec<&Prefix>> = HashMap::new();
        let (mut earlier, mut made) = (HashSet::new(), Vec::new());
        for record in self.records() {
            match record {
                Record::Begun { .. } | Record::Run { .. } => {}
                Record::Inputs { dir } | Record::Work { dir } => {
                    let _ = std::fs::remove_dir_all(dir);
                }
                Record::Outputs {
                    output_dir,
                    temp_dir,
                    prefixes,
                    earlier: there,
                    folders,
                } => {
                    for dir in [output_dir, temp_dir] {
                        written.entry(dir).or_default().extend(prefixes);
                    }
                    earlier.extend(there);
                    made.extend(folders);
                }
            }
        }
        written.retain(|_, prefixes| !prefixes.is_empty());
        for (dir, prefixes) in written {
            let wanted = |name: &str| {
                prefixes.iter().any(|prefix| prefix.fits(name))
                    && !self.living.iter().any(|prefix| prefix.fits(name))
                    && !self.claims.claimed(name)
            };
            for path in files_below(dir, wanted) {
                if !earlier.contains(&path) {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
        made.sort();
        for folder in made.into_iter().rev() {
            // Only an empty one goes.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The temporary files that a history entry reports, as far as they are on this machine.
pub fn temp_files(entry: &Value, leftovers: &Leftovers) -> Vec<PathBuf> {
    let outputs = entry.get("outputs").and_then(Value::as_object);
    let outputs = outputs.into_iter().flat_map(|outputs| outputs.values());
    let names: Vec<_> = outputs.flat_map(reported).map(|one| one.name).collect();
    let mut files = Vec::new();
    for temp in leftovers.temp_dirs() {
        let roots = Roots {
            output: &temp,
            temp: &temp,
        };
        for name in &names {
            let is_temp = matches!(
                name,
                Name::File {
                    kind: Some("temp"),
                    ..
                }
            );
            if let (true, Place::Found { path, .. }) = (is_temp, roots.find(name)) {
                files.push(path);
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A44: what a dead process noted goes, what a living one has or what was there before stays.
    #[test]
    #[expect(clippy::too_many_lines, reason = "one directory with everything in it")]
    fn the_dead_are_tidied_up_after_and_the_living_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let (output, temp) = (at("output"), at("temp"));
        for dir in ["output/v", "output/.work", "temp", "input/a"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        std::fs::write(output.join("a_x_0.png"), "").unwrap();
        let dead = Journal::new(at("journal"));
        let entry = dead.entry("a");
        entry.note(&Record::Inputs { dir: at("input/a") });
        entry.note(&Record::Work {
            dir: output.join(".work"),
        });
        entry.note(&Record::Run { id: "run".into() });
        let claims = Claims::default();
        let prefixes = ["a_x", "v/a_y"].map(|text| Prefix::new("9", text, "a"));
        let claim = claims.open(prefixes.to_vec(), &output, &temp, entry);
        let living = Journal::new(at("journal"));
        let other = living.entry("a_x");
        let theirs = vec![Prefix::new("9", "a_x_z", "a_x")];
        let other = Claims::default().open(theirs, &output, &temp, other);
        let files = ["a_x_1.png", "v/a_y_2.png", "a_x_z_3.png", "foreign.png"];
        for name in files {
            std::fs::write(output.join(name), "").unwrap();
        }
        std::fs::write(temp.join("a_y_1.png"), "").unwrap();
        let start = Journal::new(at("journal"));
        let fresh = Claims::default();
        assert!(
            remove_files_of_the_dead(&start, &fresh, &HashSet::new())
                .0
                .runs()
                .is_empty(),
            "nobody is dead"
        );
        // The kill: the lock falls, the file stays.
        let folder = std::fs::read_dir(at("journal")).unwrap().flatten();
        let lines = |dir: &Path| {
            let files = std::fs::read_dir(dir).unwrap().flatten();
            files
                .filter_map(|file| std::fs::read_to_string(file.path()).ok())
                .collect::<String>()
        };
        let folder = folder
            .map(|entry| entry.path())
            .find(|dir| lines(dir).contains("\"id\":\"run\""))
            .unwrap();
        let text = lines(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        std::mem::forget((claim, dead));
        let killed = at("journal/killed");
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join("lock"), "").unwrap();
        std::fs::write(killed.join("1.jsonl"), format!("{text}{{\"kind\": \"cut o")).unwrap();
        std::fs::write(killed.join("2.jsonl"), "").unwrap();
        let (left, going_on) =
            remove_files_of_the_dead(&start, &fresh, &HashSet::from(["b".to_owned()]));
        assert!(going_on.is_empty(), "another prompt's");
        let runs = left.runs();
        assert!(
            runs.len() == 2 && runs[0] == "run",
            "and the planned one: {runs:?}"
        );
        for (name, stays) in [
            ("output/a_x_0.png", true),
            ("output/a_x_1.png", false),
            ("output/a_x_z_3.png", true),
            ("output/foreign.png", true),
            ("output/v/a_y_2.png", false),
            ("output/.work", false),
            ("temp/a_y_1.png", false),
            ("input/a", false),
        ] {
            assert_eq!(at(name).exists(), stays, "{name}");
        }
        left.finish();
        assert!(!killed.exists());
        assert_eq!(std::fs::read_dir(at("journal")).unwrap().count(), 1);
        drop(other);
    }
}
