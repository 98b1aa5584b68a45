//! The cache directory in memory: which file a URL has, how large it is, when it was used, who
//! holds it.

use std::collections::HashMap;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::locks::{self, Locked};
use super::naming::{self, META, PARTIAL};

/// Partial files older than this belong to nobody, where no lock tells.
const OLD_PARTIAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Files by the base of their names.
#[derive(Default)]
pub(super) struct Index {
    files: HashMap<String, File>,
    /// By base, apart from the files: a lease outlives the removal of its file.
    leases: HashMap<String, Held>,
    bytes: u64,
}

/// A file that somebody here uses, and its lock, which tells other instances.
struct Held {
    count: usize,
    lock: Option<std::fs::File>,
}

struct File {
    name: String,
    size: u64,
    used: SystemTime,
}

/// A file that a scan found.
pub(super) struct Scanned {
    pub name: String,
    pub size: u64,
    pub used: SystemTime,
}

/// A file as it is listed.
pub(super) struct Known {
    pub name: String,
    pub size: u64,
    pub used: SystemTime,
    /// Somebody here holds it.
    pub held: bool,
}

/// What a scan found.
pub(super) struct Scan {
    pub files: Vec<Scanned>,
    /// Partial files, and whether they are old.
    pub partials: Vec<(PathBuf, bool)>,
}

/// Reads the directory. A file was last used when its description was last touched, else when it
/// was made; asking for that doubles the work, so it is only done where something may be evicted.
pub(super) fn scan(dir: &Path, with_use: bool) -> io::Result<Scan> {
    // Names first, which is quick; then what they are, several at a time, because each is a wait
    // for the disk.
    let entries: Vec<DirEntry> = std::fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    let share = entries
        .len()
        .div_ceil(
            std::thread::available_parallelism()
                .map_or(2, usize::from)
                .clamp(2, 8),
        )
        .max(1);
    let looked: Vec<Looked> = std::thread::scope(|scope| {
        let threads: Vec<_> = entries
            .chunks(share)
            .map(|part| scope.spawn(move || look(part, with_use)))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let mut scan = Scan {
        files: Vec::with_capacity(entries.len() / 2),
        partials: Vec::new(),
    };
    let mut used = HashMap::with_capacity(entries.len() / 2);
    for part in looked {
        scan.files.extend(part.files);
        scan.partials.extend(part.partials);
        used.extend(part.used);
    }
    for file in &mut scan.files {
        if let Some(used) = used.get(&file.name) {
            file.used = *used;
        }
    }
    Ok(scan)
}

/// What one thread found.
#[derive(Default)]
struct Looked {
    files: Vec<Scanned>,
    partials: Vec<(PathBuf, bool)>,
    /// When descriptions were touched, by the name of what they describe.
    used: Vec<(String, SystemTime)>,
}

fn look(entries: &[DirEntry], with_use: bool) -> Looked {
    let mut looked = Looked::default();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let partial = name.ends_with(PARTIAL);
        let described = name.strip_suffix(META);
        if !partial
            && (naming::base_of(described.unwrap_or(&name)).is_none()
                || described.is_some() && !with_use)
        {
            continue;
        }
        let Some(metadata) = entry.metadata().ok().filter(std::fs::Metadata::is_file) else {
            continue;
        };
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if partial {
            let old = modified.elapsed().is_ok_and(|age| age > OLD_PARTIAL);
            looked.partials.push((entry.path(), old));
        } else if let Some(described) = described {
            looked.used.push((described.to_owned(), modified));
        } else {
            looked.files.push(Scanned {
                size: metadata.len(),
                used: modified,
                name,
            });
        }
    }
    looked
}

impl Index {
    pub fn fill(&mut self, files: Vec<Scanned>) {
        self.files.clear();
        self.bytes = 0;
        self.files.reserve(files.len());
        for file in files {
            if let Some(base) = naming::base_of(&file.name).map(str::to_owned) {
                self.insert_at(base, file);
            }
        }
    }

    fn insert_at(&mut self, base: String, file: Scanned) {
        self.bytes += file.size;
        if let Some(before) = self.files.insert(
            base,
            File {
                name: file.name,
                size: file.size,
                used: file.used,
            },
        ) {
            self.bytes -= before.size;
        }
    }

    pub fn insert(&mut self, base: &str, name: &str, size: u64, used: SystemTime) {
        self.insert_at(
            base.to_owned(),
            Scanned {
                name: name.to_owned(),
                size,
                used,
            },
        );
    }

    pub fn name(&self, base: &str) -> Option<String> {
        self.files.get(base).map(|file| file.name.clone())
    }

    /// Holds a file that is known. `false` when it is not there any more.
    pub fn lease(&mut self, base: &str, dir: &Path) -> bool {
        let Some(file) = self.files.get(base) else {
            return false;
        };
        let path = dir.join(&file.name);
        let held = self.leases.get_mut(base);
        // A file that has taken the place of another one has a lock of its own.
        let locked = held.as_ref().is_some_and(|held| match &held.lock {
            Some(lock) => locks::is_still_at(lock, &path),
            None => true,
        });
        let lock = match locked {
            true => None,
            false => match locks::together(&path) {
                Locked::Ours(lock) => Some(lock),
                Locked::Unknown => None,
                Locked::Gone | Locked::Theirs => return false,
            },
        };
        match held {
            Some(held) => {
                held.count += 1;
                held.lock = lock.or(held.lock.take());
            }
            None => {
                let held = Held { count: 1, lock };
                self.leases.insert(base.to_owned(), held);
            }
        }
        true
    }

    pub fn release(&mut self, base: &str) {
        if let Some(held) = self.leases.get_mut(base) {
            held.count -= 1;
            if held.count == 0 {
                self.leases.remove(base);
            }
        }
    }

    pub fn touch(&mut self, base: &str) {
        if let Some(file) = self.files.get_mut(base) {
            file.used = SystemTime::now();
        }
    }

    pub fn remove(&mut self, base: &str) -> Option<(String, u64)> {
        let file = self.files.remove(base)?;
        self.bytes -= file.size;
        Some((file.name, file.size))
    }

    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether somebody here holds a file.
    pub fn is_held(&self, base: &str) -> bool {
        self.leases.contains_key(base)
    }

    /// All files, in no order.
    pub fn all(&self) -> Vec<Known> {
        let known = self.files.iter().map(|(base, file)| Known {
            name: file.name.clone(),
            size: file.size,
            used: file.used,
            held: self.is_held(base),
        });
        known.collect()
    }

    /// Bytes of the files that nobody holds.
    pub fn free(&self) -> u64 {
        self.files
            .iter()
            .filter(|(base, _)| !self.leases.contains_key(*base))
            .map(|(_, file)| file.size)
            .sum()
    }

    /// The bases of files that nobody here holds, least recently used first.
    pub fn by_use(&self) -> Vec<String> {
        let mut free: Vec<(&String, &File)> = self
            .files
            .iter()
            .filter(|(base, _)| !self.leases.contains_key(*base))
            .collect();
        free.sort_by_key(|(_, file)| file.used);
        free.into_iter().map(|(base, _)| base.clone()).collect()
    }

    pub fn file(&self, base: &str) -> Option<(String, u64)> {
        self.files
            .get(base)
            .map(|file| (file.name.clone(), file.size))
    }
}
