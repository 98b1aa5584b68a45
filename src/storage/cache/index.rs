//! The cache directory in memory: which file a URL has, how large it is, when it was used, who holds it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::naming::{self, META, PARTIAL};

/// Partial files older than this belong to nobody.
const OLD_PARTIAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Files by the base of their names.
#[derive(Default)]
pub(super) struct Index {
    files: HashMap<String, File>,
    /// By base, apart from the files: a lease outlives the removal of its file.
    leases: HashMap<String, usize>,
    bytes: u64,
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

/// What a scan found.
pub(super) struct Scan {
    pub files: Vec<Scanned>,
    pub old_partials: Vec<PathBuf>,
}

/// Reads the directory. A file was last used when its description was last touched, else when it was made.
pub(super) fn scan(dir: &Path) -> io::Result<Scan> {
    let mut scan = Scan { files: Vec::new(), old_partials: Vec::new() };
    let mut described = HashSet::new();
    let mut undescribed = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(PARTIAL) {
            let modified = entry.metadata().ok().filter(std::fs::Metadata::is_file).and_then(|metadata| metadata.modified().ok());
            if modified.is_some_and(|modified| modified.elapsed().is_ok_and(|age| age > OLD_PARTIAL)) {
                scan.old_partials.push(entry.path());
            }
        } else if let Some(described_name) = name.strip_suffix(META) {
            if naming::base_of(described_name).is_some() {
                described.insert(described_name.to_owned());
            }
        } else if naming::base_of(&name).is_some()
            && let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            undescribed.push(Scanned { size: metadata.len(), used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name });
        }
    }
    for mut file in undescribed {
        if described.remove(&file.name)
            && let Ok(used) = std::fs::metadata(dir.join(format!("{}{META}", file.name))).and_then(|metadata| metadata.modified())
        {
            file.used = used;
        }
        scan.files.push(file);
    }
    Ok(scan)
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
        if let Some(before) = self.files.insert(base, File { name: file.name, size: file.size, used: file.used }) {
            self.bytes -= before.size;
        }
    }

    pub fn insert(&mut self, base: &str, name: &str, size: u64, used: SystemTime) {
        self.insert_at(base.to_owned(), Scanned { name: name.to_owned(), size, used });
    }

    pub fn name(&self, base: &str) -> Option<String> {
        self.files.get(base).map(|file| file.name.clone())
    }

    /// Holds a file; the name if it is known.
    pub fn lease(&mut self, base: &str) -> Option<String> {
        let name = self.files.get(base)?.name.clone();
        *self.leases.entry(base.to_owned()).or_default() += 1;
        Some(name)
    }

    pub fn release(&mut self, base: &str) {
        if let Some(count) = self.leases.get_mut(base) {
            *count -= 1;
            if *count == 0 {
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

    /// The bases of files that nobody holds, least recently used first, until they make up `excess` bytes.
    pub fn least_used(&self, excess: u64) -> Vec<String> {
        let mut free: Vec<(&String, &File)> = self.files.iter().filter(|(base, _)| !self.leases.contains_key(*base)).collect();
        free.sort_by_key(|(_, file)| file.used);
        let mut chosen = 0;
        free.into_iter()
            .take_while(|(_, file)| {
                let wanted = chosen < excess;
                chosen += file.size;
                wanted
            })
            .map(|(base, _)| base.clone())
            .collect()
    }
}
