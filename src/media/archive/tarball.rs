//! Unpacks tar files.
//!
//! Long names are read here instead of by the tar crate, which would take as much memory as the
//! archive says they need.

use std::io::Read;

use tar::{Archive, EntryType};

use super::unpack::UnpackError;
use super::writer::Extraction;

/// Most bytes of a long name or of a set of extended headers.
const MAX_EXTENSION: u64 = 64 * 1024;

pub(super) fn unpack(reader: impl Read, out: &mut Extraction<'_>) -> Result<(), UnpackError> {
    let damaged = |e: std::io::Error| format!("The tar archive cannot be read ({e}).");
    let mut archive = Archive::new(reader);
    let mut long_name: Option<String> = None;
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        out.count()?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let text = extension(&mut entry)?;
                let name = text.split(|byte| *byte == 0).next().unwrap_or_default();
                long_name = Some(String::from_utf8_lossy(name).into_owned());
                continue;
            }
            EntryType::XHeader => {
                let size = entry.header().entry_size().map_err(damaged)?;
                let text = extension(&mut entry)?;
                let headers = pax(&text).ok_or_else(|| {
                    format!("The tar archive has damaged extended headers ({size} bytes).")
                })?;
                for (key, value) in headers {
                    match key.as_str() {
                        "path" => long_name = Some(value),
                        // Sizes that do not fit into the usual field, and sparse files, are beyond
                        // what inputs need.
                        key if key == "size" || key.starts_with("GNU.sparse") => {
                            return Err("The tar archive holds a sparse file or one of more than \
                                        8 GiB, which is not supported."
                                .to_owned()
                                .into());
                        }
                        _ => {}
                    }
                }
                continue;
            }
            EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = match long_name.take() {
            Some(name) => name,
            None => String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
        };
        match kind {
            EntryType::Regular | EntryType::Continuous if !name.ends_with('/') => {
                out.file(&name, &mut entry)?
            }
            EntryType::Directory | EntryType::Regular => out.folder(&name)?,
            _ => {
                let shown: String = name.chars().take(80).collect();
                return Err(
                    format!("The archive holds \"{shown}\", which is not a regular file.").into(),
                );
            }
        }
    }
    Ok(())
}

fn extension(entry: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    entry
        .take(MAX_EXTENSION + 1)
        .read_to_end(&mut text)
        .map_err(|e| format!("The tar archive cannot be read ({e})."))?;
    if text.len() as u64 > MAX_EXTENSION {
        return Err("The tar archive holds a name that is too long.".to_owned());
    }
    Ok(text)
}

/// Lines of the form `<length> <key>=<value>\n`, where the length counts the whole line.
fn pax(text: &[u8]) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
        let line = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        headers.push((text(line.get(..equals)?), text(line.get(equals + 1..)?)));
        rest = rest.get(length..)?;
    }
    Some(headers)
}
