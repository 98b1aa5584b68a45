//! Whose a file is, and how it becomes ours alone.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use super::super::super::cleanup::Owner;
use super::super::OutputFile;
use super::{Collecting, file_name};

impl Collecting<'_> {
    /// Whose a file is.
    pub(super) fn owner(&self, path: &Path) -> Owner {
        match path.symlink_metadata() {
            Ok(about) => self.owner_of(path, about.file_type()),
            Err(_) => self.owner_by_name(path),
        }
    }

    /// By the name of the file itself, wherever links lead.
    pub(super) fn owner_of(&self, path: &Path, kind: FileType) -> Owner {
        // Only a link can lead to another name.
        let real = kind.is_symlink().then(|| path.canonicalize().ok());
        match real
            .flatten()
            .map_or(Owner::Nobody, |real| self.owner_by_name(&real))
        {
            Owner::Nobody => self.owner_by_name(path),
            owner => owner,
        }
    }

    fn owner_by_name(&self, path: &Path) -> Owner {
        let name = path.file_name().and_then(|name| name.to_str());
        name.map_or(Owner::Nobody, |name| self.facts.claim.owner(name))
    }

    pub(super) fn is_ours(&self, path: &Path) -> bool {
        matches!(self.owner(path), Owner::Ours(_))
    }

    /// Takes a file into our folder and describes it.
    pub(super) fn secured(
        &mut self,
        node: &str,
        key: &str,
        path: &Path,
        kind: FileType,
    ) -> io::Result<OutputFile> {
        let behind = match kind.is_symlink() {
            true => path.metadata()?.file_type(),
            false => kind,
        };
        if !behind.is_file() {
            if !behind.is_dir() {
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
            path: self.secure(path, kind)?,
            written_to: path.to_path_buf(),
            content: None,
        };
        file.look(&mut self.room)?;
        Ok(file)
    }

    /// A file whose name nobody else can ever have is safe where it is, unless the run goes on and
    /// may write it once more. Where nothing can be moved, one that bears our name is ours where it
    /// is.
    fn secure(&self, path: &Path, kind: FileType) -> io::Result<PathBuf> {
        let claim = &self.facts.claim;
        let stays = claim.fresh
            && !self.facts.goes_on
            && !path.starts_with(self.roots.temp)
            && !kind.is_symlink()
            && matches!(self.owner_by_name(path), Owner::Ours(_));
        if stays {
            claim.take_in_place(path);
            self.cleanup.add(path.to_path_buf());
            return Ok(path.to_path_buf());
        }
        match self.cleanup.secure(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && self.is_ours(path) => {
                self.cleanup.add(path.to_path_buf());
                Ok(path.to_path_buf())
            }
            secured => secured,
        }
    }
}
