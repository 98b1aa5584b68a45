//! Packing with constant memory. Media that is compressed already is stored as it is.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::names::DistinctNames;
use crate::media::PendingFile;
use crate::media::recognise;
use crate::media::stop::{Stop, Stoppable};

/// Buffer of a copy.
const BUFFER: usize = 256 * 1024;

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

/// Packs files under the given names; names that occur twice are made different. Runs on a blocking
/// thread.
///
/// The archive appears under its name only when it is complete.
///
/// # Errors
/// When a file cannot be read or the archive not be written; nothing is left behind then.
pub async fn pack(
    files: Vec<(PathBuf, String)>,
    destination: PathBuf,
    format: ArchiveFormat,
) -> io::Result<()> {
    pack_until(files, destination, format, None).await
}

/// The same, until it is to stop.
pub(in crate::media) async fn pack_until(
    files: Vec<(PathBuf, String)>,
    destination: PathBuf,
    format: ArchiveFormat,
    stop: Option<Stop>,
) -> io::Result<()> {
    let work = move || -> io::Result<(PendingFile, PathBuf)> {
        let pending = PendingFile::beside(&destination, "part");
        let file = File::create_new(pending.path())?;
        match stop {
            Some(stop) => stop.over(|| write(&files, file, format))?,
            None => write(&files, file, format)?,
        }
        Ok((pending, destination))
    };
    // The pending file travels back through the task, so it is deleted when nobody waits for it any
    // more.
    let (pending, destination) = tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)??;
    pending.rename(&destination)
}

fn write(files: &[(PathBuf, String)], file: File, format: ArchiveFormat) -> io::Result<()> {
    let mut names = DistinctNames::default();
    let output = BufWriter::with_capacity(BUFFER, file);
    let output = match format {
        ArchiveFormat::Zip => {
            let mut zip = ZipWriter::new(output);
            for (path, name) in files {
                add_to_zip(&mut zip, path, &names.give(name)).map_err(|e| naming(e, name))?;
            }
            zip.finish()?
        }
        ArchiveFormat::Tar => write_tar(files, &mut names, output)?,
        ArchiveFormat::TarGz => {
            // gzip cannot store single members; when all of it is compressed already, the fastest
            // level loses nothing.
            let stored = files.iter().all(|(path, _)| is_compressed(path));
            let level = if stored {
                Compression::fast()
            } else {
                Compression::default()
            };
            write_tar(files, &mut names, GzEncoder::new(output, level))?.finish()?
        }
    };
    output
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn add_to_zip(zip: &mut ZipWriter<BufWriter<File>>, path: &Path, name: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let method = if is_compressed(path) {
        CompressionMethod::Stored
    } else {
        CompressionMethod::Deflated
    };
    // The sizes need the large form before they are known; deflating can grow a file a little.
    let large = size >= u64::from(u32::MAX) - (64 << 20);
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .large_file(large)
        .unix_permissions(0o644);
    zip.start_file(name, options)?;
    copy(&mut Stoppable(file), zip).map(drop)
}

fn write_tar<W: Write>(
    files: &[(PathBuf, String)],
    names: &mut DistinctNames,
    output: W,
) -> io::Result<W> {
    let mut tar = tar::Builder::new(output);
    for (path, name) in files {
        let mut add = || -> io::Result<()> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs()),
            );
            // A file that changes size meanwhile would break everything behind it.
            let mut exact = Exact {
                inner: Stoppable(file),
                left: size,
            };
            tar.append_data(&mut header, names.give(name), &mut exact)
        };
        add().map_err(|e| naming(e, name))?;
    }
    tar.into_inner()
}

/// Exactly as many bytes as announced, else an error.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self
            .inner
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was packed",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        total += count as u64;
    }
}

fn is_compressed(path: &Path) -> bool {
    recognise::head(path).is_ok_and(|head| recognise::is_compressed(&head))
}

fn naming(error: io::Error, name: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{name} could not be packed: {error}"))
}
