//! ComfyUI's embedded workflow, carried from one file to the next.
//!
//! ComfyUI writes it into PNG files as text chunks `prompt` and `workflow` (and whatever else
//! `extra_pnginfo` holds), and into WEBP files as EXIF strings in the form `key:value`: `prompt` in
//! the tag Model (0x0110), the others in Make (0x010F) and the tags below. ComfyUI's front end
//! opens dropped files by the same rules, so they are followed here for WEBP and JPEG. Strings of
//! EXIF are ASCII: other characters become JSON escapes, which means the same inside of JSON.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::image::{ImageDecoder, ImageFormat, ImageReader};

/// EXIF's Model, where ComfyUI keeps `prompt`.
const MODEL: u16 = 0x0110;
/// EXIF's Make, where ComfyUI keeps the first of the others.
const MAKE: u16 = 0x010F;
/// Most bytes of text that are carried over.
const MAX_TEXT: usize = 16 << 20;

/// Texts by key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::media) struct Embedded(Vec<(String, String)>);

impl Embedded {
    /// Key and text, in the order of the file.
    pub(in crate::media) fn entries(&self) -> &[(String, String)] {
        &self.0
    }

    /// The EXIF structure (a TIFF header and one directory), if there is anything to keep.
    pub(super) fn exif(&self) -> Option<Vec<u8>> {
        let mut next = MAKE;
        let mut tags: Vec<(u16, String)> = Vec::new();
        for (key, text) in &self.0 {
            let tag = if key == "prompt" { MODEL } else { next };
            if tag != MODEL {
                next = next.saturating_sub(1);
            }
            tags.push((tag, format!("{key}:{text}\0")));
        }
        tags.sort_by_key(|(tag, _)| *tag);
        let count = u16::try_from(tags.len()).ok().filter(|count| *count > 0)?;
        let mut directory = count.to_le_bytes().to_vec();
        let mut texts = Vec::new();
        // Header, count, entries of twelve bytes, and the offset of a next directory that does not
        // exist.
        let start = 8 + 2 + 12 * u32::from(count) + 4;
        for (tag, text) in &tags {
            let length = u32::try_from(text.len()).ok()?;
            directory.extend(tag.to_le_bytes());
            directory.extend(2_u16.to_le_bytes());
            directory.extend(length.to_le_bytes());
            // A value of up to four bytes would stand in the entry itself; "key:" and the zero byte
            // are longer than that.
            directory.extend((start + u32::try_from(texts.len()).ok()?).to_le_bytes());
            texts.extend(text.as_bytes());
            if texts.len() % 2 == 1 {
                texts.push(0);
            }
        }
        directory.extend(0_u32.to_le_bytes());
        Some([b"II*\0\x08\0\0\0".as_slice(), &directory, &texts].concat())
    }

    fn push(&mut self, key: &str, text: &str) {
        let fits =
            self.0.iter().map(|(_, text)| text.len()).sum::<usize>() + text.len() <= MAX_TEXT;
        let named = (3..=79).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b));
        if fits
            && named
            && !text.contains('\0')
            && self.0.len() < 64
            && self.0.iter().all(|(known, _)| known != key)
        {
            self.0.push((key.to_owned(), ascii(text)));
        }
    }
}

/// The text in ASCII, other characters as JSON escapes.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// What ComfyUI has put into an image file. A file without metadata, or with broken ones, has
/// nothing.
///
/// # Errors
/// When the file cannot be read.
pub(in crate::media) fn read(path: &Path) -> Result<Embedded, String> {
    let unreadable = |e: std::io::Error| format!("the file could not be read ({e})");
    let reader = ImageReader::new(BufReader::new(File::open(path).map_err(unreadable)?))
        .with_guessed_format()
        .map_err(unreadable)?;
    let mut embedded = Embedded::default();
    if reader.format() == Some(ImageFormat::Png) {
        read_png(
            BufReader::new(File::open(path).map_err(unreadable)?),
            &mut embedded,
        );
    } else if let Ok(mut decoder) = reader.into_decoder()
        && let Ok(Some(exif)) = decoder.exif_metadata()
    {
        for text in exif_strings(&exif) {
            if let Some((key, value)) = text.split_once(':') {
                embedded.push(key, value);
            }
        }
    }
    Ok(embedded)
}

fn read_png(file: BufReader<File>, embedded: &mut Embedded) {
    let Ok(reader) =
        ::png::Decoder::new_with_limits(file, ::png::Limits { bytes: 256 << 20 }).read_info()
    else {
        return;
    };
    let info = reader.info();
    for chunk in &info.uncompressed_latin1_text {
        embedded.push(&chunk.keyword, &chunk.text);
    }
    for chunk in &info.compressed_latin1_text {
        if let Ok(text) = chunk.get_text() {
            embedded.push(&chunk.keyword, &text);
        }
    }
    for chunk in &info.utf8_text {
        if let Ok(text) = chunk.get_text() {
            embedded.push(&chunk.keyword, &text);
        }
    }
}

/// The ASCII strings of the first directory.
fn exif_strings(exif: &[u8]) -> Vec<String> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    read_directory(tiff).unwrap_or_default()
}

fn read_directory(tiff: &[u8]) -> Option<Vec<String>> {
    let little = tiff.starts_with(b"II*\0");
    if !little && !tiff.starts_with(b"MM\0*") {
        return None;
    }
    let short = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
        .ok()
    };
    let start = long(4)?;
    let mut strings = Vec::new();
    for entry in 0..usize::from(short(start)?) {
        let at = start + 2 + 12 * entry;
        if short(at + 2)? != 2 {
            continue;
        }
        let (length, offset) = (long(at + 4)?, long(at + 8)?);
        let begin = if length <= 4 { at + 8 } else { offset };
        let Some(bytes) = tiff.get(begin..begin.checked_add(length)?) else {
            continue;
        };
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        strings.push(String::from_utf8_lossy(text).into_owned());
    }
    Some(strings)
}
