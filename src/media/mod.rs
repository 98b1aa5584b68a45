//! Files into other files: image codecs, ffmpeg, archives, recognising types. Knows nothing of prompts.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::MediaConfig;
use crate::error::Failure;

/// A checked `convert_output`.
#[derive(Debug, Clone)]
pub struct Conversion {
    _format: String,
}

impl Conversion {
    /// Checks format and options strictly.
    ///
    /// # Errors
    /// A 400 whose location is `convert_output.format` or `convert_output.options.<name>`.
    pub fn parse(format: &str, options: Option<&Value>) -> Result<Self, Failure> {
        let _ = options;
        Ok(Self { _format: format.to_owned() })
    }
}

/// A file to convert.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name towards the client.
    pub filename: String,
}

/// What became of the files of one node, in order.
#[derive(Debug, Clone)]
pub enum Converted {
    /// `sources[index]` is of a kind that this conversion does not touch.
    Unchanged(usize),
    /// A new file beside its first source.
    File {
        /// Which sources went into it; several images become one video.
        sources: Vec<usize>,
        /// Where it is.
        path: PathBuf,
        /// Its name towards the client.
        filename: String,
    },
    /// Converting `sources[index]` failed; the original is to be delivered, with this sentence as a warning.
    Failed(usize, String),
}

/// The converter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Media {
    _config: MediaConfig,
}

impl Media {
    /// A converter that allows one image per core at a time.
    pub fn new(config: &MediaConfig) -> Self {
        Self { _config: config.clone() }
    }

    /// Whether this conversion can be done here (ffmpeg may be missing).
    ///
    /// # Errors
    /// A 400 that says what is missing.
    pub async fn check(&self, conversion: &Conversion) -> Result<(), Failure> {
        let _ = conversion;
        Ok(())
    }

    /// Converts the files of one node. Every source occurs in exactly one entry of the answer. Sources stay.
    pub async fn convert(&self, conversion: &Conversion, sources: &[SourceFile], cancel: &CancellationToken) -> Vec<Converted> {
        let _ = (conversion, cancel);
        (0..sources.len()).map(Converted::Unchanged).collect()
    }
}

/// The archives that outputs can be packed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// `zip`
    Zip,
    /// `tar`
    Tar,
    /// `tar.gz`
    TarGz,
}

impl ArchiveFormat {
    /// The extension, without a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
        }
    }
}

/// Packs files under the given names; names that occur twice are made different. Runs on a blocking thread.
///
/// # Errors
/// When a file cannot be read or the archive not be written; nothing is left behind then.
pub async fn pack(files: Vec<(PathBuf, String)>, destination: PathBuf, format: ArchiveFormat) -> io::Result<()> {
    let _ = (files, destination, format);
    Err(io::Error::other("not built yet"))
}

/// Unpacks zip, tar, tar.gz or tar.zst, recognised by content, into a new directory. Regular files only.
///
/// # Errors
/// A sentence that says what is wrong (unsafe name, link, too many files, too large); nothing is left behind then.
pub async fn unpack(archive: &Path, destination: &Path, max_files: u64, max_bytes: u64) -> Result<(), String> {
    let _ = (archive, destination, max_files, max_bytes);
    Err("not built yet".to_owned())
}

/// Whether the first bytes are those of an archive that [`unpack`] takes.
pub fn is_archive(head: &[u8]) -> bool {
    let _ = head;
    false
}

/// The usual extension (no dot) for content that begins with these bytes (a few KiB), if it is recognised as media,
/// archive or model.
pub fn extension_for(head: &[u8]) -> Option<&'static str> {
    infer::get(head).map(|kind| kind.extension())
}

/// The content type of a file from its name and its first bytes; `application/octet-stream` when unknown.
pub fn content_type(filename: &str, head: &[u8]) -> String {
    let _ = filename;
    infer::get(head).map_or("application/octet-stream", |kind| kind.mime_type()).to_owned()
}
