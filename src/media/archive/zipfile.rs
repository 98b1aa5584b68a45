//! Unpacks zip files.

use std::fs::File;
use std::io::BufReader;

use zip::ZipArchive;

use super::unpack::UnpackError;
use super::writer::Extraction;

/// The bits of a Unix mode that tell the kind of a file.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

pub(super) fn unpack(file: File, out: &mut Extraction<'_>) -> Result<(), UnpackError> {
    let damaged = |e: zip::result::ZipError| format!("The zip archive cannot be read ({e}).");
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    if archive.len() as u64 > out.max_entries() {
        return Err(out.too_many().into());
    }
    for index in 0..archive.len() {
        out.count()?;
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        if entry.encrypted() {
            return Err("The zip archive is encrypted.".to_owned().into());
        }
        if entry.is_dir() {
            out.folder(&name)?;
            continue;
        }
        let kind = entry.unix_mode().map_or(0, |mode| mode & KIND);
        if entry.is_symlink() || (kind != 0 && kind != REGULAR) {
            let shown: String = name.chars().take(80).collect();
            return Err(
                format!("The archive holds \"{shown}\", which is not a regular file.").into(),
            );
        }
        out.file(&name, &mut entry)?;
    }
    Ok(())
}
