//! Unpacking: which kind of archive it is, into a new directory that disappears again when anything
//! is wrong.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::{GzDecoder, MultiGzDecoder};

use super::writer::Extraction;
use super::{tarball, zipfile};

/// Most memory that a zstd stream may ask for: 128 MiB, what the `zstd` command allows too.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Where a tar header says "ustar".
const TAR_MAGIC: usize = 257;

/// Why an archive was not unpacked.
#[derive(Debug)]
pub enum UnpackError {
    /// Something is wrong with it; a sentence.
    Archive(String),
    /// The archive cannot be read, or its files not be written.
    Disk(std::io::Error),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(sentence) => f.write_str(sentence),
            Self::Disk(error) => write!(f, "The disk failed: {error}."),
        }
    }
}

impl std::error::Error for UnpackError {}

impl From<String> for UnpackError {
    fn from(sentence: String) -> Self {
        Self::Archive(sentence)
    }
}

/// The kinds that can be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zip,
    Tar,
    Gzip,
    Zstd,
}

fn kind(head: &[u8]) -> Option<Kind> {
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Some(Kind::Zip)
    } else if head.starts_with(&[0x1F, 0x8B, 0x08]) {
        holds_tar(GzDecoder::new(head)).then_some(Kind::Gzip)
    } else if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        // A compressed block may need more bytes than there are here, so this one is believed.
        Some(Kind::Zstd)
    } else {
        is_tar(head).then_some(Kind::Tar)
    }
}

fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC..TAR_MAGIC + 5) == Some(b"ustar")
}

/// Whether the beginning of a stream looks like a tar file, as far as it can be decompressed.
fn holds_tar(reader: impl Read) -> bool {
    let mut start = Vec::new();
    // The end of what we have is no mistake here.
    let _ = reader.take(512).read_to_end(&mut start);
    start.len() < TAR_MAGIC + 5 || is_tar(&start)
}

/// Whether the first bytes are those of an archive that [`unpack`] takes.
pub fn is_archive(head: &[u8]) -> bool {
    kind(head).is_some()
}

/// Unpacks zip, tar, tar.gz or tar.zst, recognised by content, into a new directory. Regular files
/// only.
///
/// # Errors
/// When something is wrong with the archive (unsafe name, link, too many files, too large) or with
/// the disk; nothing is left behind then.
pub async fn unpack(
    archive: &Path,
    destination: &Path,
    max_files: u64,
    max_bytes: u64,
) -> Result<(), UnpackError> {
    let (archive, destination) = (archive.to_owned(), destination.to_owned());
    let work = move || -> Result<NewDirectory, UnpackError> {
        let directory = NewDirectory::create(destination).map_err(UnpackError::Disk)?;
        fill(&archive, &directory.path, max_files, max_bytes)?;
        Ok(directory)
    };
    // The directory travels back through the task, so it is deleted when nobody waits for it any
    // more.
    let directory = tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| UnpackError::Disk(e.into()))??;
    directory.keep();
    Ok(())
}

fn fill(
    archive: &Path,
    destination: &Path,
    max_files: u64,
    max_bytes: u64,
) -> Result<(), UnpackError> {
    let unreadable = UnpackError::Disk;
    let mut file = File::open(archive).map_err(unreadable)?;
    let mut head = Vec::new();
    (&mut file)
        .take(8192)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let mut out = Extraction::new(destination, max_files, max_bytes);
    match kind(&head) {
        Some(Kind::Zip) => zipfile::unpack(file, &mut out),
        Some(Kind::Tar) => tarball::unpack(BufReader::new(file), &mut out),
        Some(Kind::Gzip) => tarball::unpack(MultiGzDecoder::new(BufReader::new(file)), &mut out),
        Some(Kind::Zstd) => {
            let mut decoder = zstd::Decoder::new(file).map_err(unreadable)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(unreadable)?;
            tarball::unpack(decoder, &mut out)
        }
        None => Err(
            "The file is not an archive that can be unpacked (zip, tar, tar.gz, tar.zst)."
                .to_owned()
                .into(),
        ),
    }
}

/// A directory that is removed with everything in it unless it is kept.
struct NewDirectory {
    path: PathBuf,
    kept: bool,
}

impl NewDirectory {
    fn create(path: PathBuf) -> std::io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::create_dir(&path) {
            Ok(()) => {}
            // An empty one may have been made by the caller.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                if fs::read_dir(&path)?.next().is_some() {
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
        }
        Ok(Self { path, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.kept {
            // There is nobody left to tell.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
