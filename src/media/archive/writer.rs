//! Writes what comes out of an archive, counting files and bytes as they come: what an archive says
//! about itself is not believed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::names::safe_path;
use super::unpack::UnpackError;

/// Folders in one another, at most.
const DEEPEST: usize = 32;
/// What an entry takes on the disk beside its content.
const BLOCK: u64 = 4096;

/// The directory that is being filled, and what may still go into it.
pub(super) struct Extraction<'a> {
    root: &'a Path,
    /// Counted.
    folders: HashSet<PathBuf>,
    /// Made.
    made: HashSet<PathBuf>,
    max_files: u64,
    max_bytes: u64,
    files: u64,
    entries: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Extraction<'a> {
    pub(super) fn new(root: &'a Path, max_files: u64, max_bytes: u64) -> Self {
        Self {
            root,
            folders: HashSet::new(),
            made: HashSet::new(),
            max_files,
            max_bytes,
            files: 0,
            entries: 0,
            bytes: 0,
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Counts an entry of any kind, headers and folders included, so that these cannot be many
    /// either.
    pub(super) fn count(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.max_entries() {
            Err(self.too_many().into())
        } else {
            Ok(())
        }
    }

    /// Tools write up to three entries for a file (its headers, its name, what macOS adds), and one
    /// for each folder.
    pub(super) fn max_entries(&self) -> u64 {
        self.max_files.saturating_mul(4).saturating_add(1000)
    }

    /// What is said when there are too many files.
    pub(super) fn too_many(&self) -> String {
        format!(
            "The archive holds more than {} files and folders (MAX_ARCHIVE_FILES).",
            self.max_files
        )
    }

    /// Counts a folder that an archive names. It is made when there is a file for it.
    pub(super) fn folder(&mut self, name: &str) -> Result<(), UnpackError> {
        match safe_path(name)? {
            Some(relative) => self.count_folders(&relative),
            None => Ok(()),
        }
    }

    /// Counts a folder and those around it, each once.
    fn count_folders(&mut self, folder: &Path) -> Result<(), UnpackError> {
        let depth = folder.components().count();
        if depth > DEEPEST {
            let shown: String = folder.to_string_lossy().chars().take(80).collect();
            return Err(format!(
                "The archive holds folders in one another deeper than {DEEPEST} (\"{shown}\")."
            )
            .into());
        }
        for folder in folder.ancestors().take(depth) {
            if !self.folders.insert(folder.to_owned()) {
                break;
            }
            self.count_on_disk()?;
        }
        Ok(())
    }

    /// Counts something that will be on the disk.
    fn count_on_disk(&mut self) -> Result<(), UnpackError> {
        self.files += 1;
        if self.files > self.max_files {
            return Err(self.too_many().into());
        }
        self.count_bytes(BLOCK)
    }

    fn count_bytes(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max_bytes {
            return Err(format!(
                "The archive unpacks to more than {} bytes (MAX_ARCHIVE_SIZE_MB).",
                self.max_bytes
            )
            .into());
        }
        Ok(())
    }

    /// Writes a regular file.
    pub(super) fn file(&mut self, name: &str, content: &mut impl Read) -> Result<(), UnpackError> {
        let Some(relative) = safe_path(name)? else {
            return Ok(());
        };
        let folder = relative.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder {
            self.count_folders(folder)?;
        }
        self.count_on_disk()?;
        let path = self.root.join(&relative);
        if let Some(folder) = folder
            && self.made.insert(folder.to_owned())
        {
            fs::create_dir_all(self.root.join(folder)).map_err(|e| at_path(e, &relative))?;
        }
        let mut file = File::create_new(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("The archive holds {} twice.", relative.display()).into()
            }
            _ => at_path(e, &relative),
        })?;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(
                        format!("The archive is damaged at {} ({e}).", relative.display()).into(),
                    );
                }
            };
            if count == 0 {
                return Ok(());
            }
            self.count_bytes(count as u64)?;
            file.write_all(self.buffer.get(..count).unwrap_or_default())
                .map_err(|e| at_path(e, &relative))?;
        }
    }
}

/// Writing failed. A name that is a file here and a folder there, or one that is too long, is the
/// archive's fault; all else the disk's.
fn at_path(error: std::io::Error, relative: &Path) -> UnpackError {
    use std::io::ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory,
    };
    match error.kind() {
        AlreadyExists | InvalidFilename | InvalidInput | IsADirectory | NotADirectory => {
            format!("{} could not be unpacked ({error}).", relative.display()).into()
        }
        kind => UnpackError::Disk(std::io::Error::new(
            kind,
            format!("{} could not be unpacked: {error}", relative.display()),
        )),
    }
}
