//! Graphs inside pictures, videos and sounds, as ComfyUI and its packs write them.
//!
//! Only metadata is read, wherever it stands in the file, and nothing is decoded: a large file
//! costs no more than a small one.

mod audio;
mod boxes;
mod exif;
mod file;
mod matroska;
mod pictures;
mod texts;

use std::io::{self, Read, Seek};

use serde_json::{Map, Value};

use super::recognise::{Recognised, recognise, recognise_text};
use file::File;

/// The members that hold graphs.
const NAMES: [&str; 2] = ["prompt", "workflow"];
/// No text of metadata is longer.
const LONGEST: u64 = 64 * 1024 * 1024;
/// Chunks, boxes and elements of one file.
const MOST_PARTS: usize = 200_000;

/// Which of the two graphs of a file counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// What ran.
    #[default]
    Prompt,
    /// What the editor shows.
    Workflow,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Found {
    /// The kind of file, in words.
    pub kind: &'static str,
    /// Where graphs would be, in words.
    pub place: &'static str,
    prompt: Option<Vec<u8>>,
    workflow: Option<Vec<u8>>,
    /// Another program has described the picture.
    foreign: bool,
}

/// Looks for graphs; None when the file is of no kind that can hold one.
///
/// # Errors
/// When the file cannot be read.
pub fn find<R: Read + Seek>(source: &mut R) -> io::Result<Option<Found>> {
    let mut file = File::open(source)?;
    let start = file.peek(16)?;
    let at = |from: usize, text: &[u8]| start.get(from..).is_some_and(|s| s.starts_with(text));
    let mut found = Found::default();
    let read = if at(0, b"\x89PNG\r\n\x1a\n") {
        (found.kind, found.place) = ("PNG picture", "its text chunks");
        pictures::png(&mut file, &mut found)
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        (found.kind, found.place) = ("WebP picture", "its EXIF chunk");
        pictures::webp(&mut file, &mut found)
    } else if at(0, b"\xff\xd8\xff") {
        (found.kind, found.place) = ("JPEG picture", "its EXIF data");
        pictures::jpeg(&mut file, &mut found)
    } else if at(4, b"ftyp") && (at(8, b"avif") || at(8, b"avis") || at(8, b"mif1")) {
        (found.kind, found.place) = ("AVIF picture", "its EXIF data");
        boxes::avif(&mut file, &mut found)
    } else if at(4, b"ftyp") || at(4, b"moov") || at(4, b"wide") || at(4, b"mdat") {
        (found.kind, found.place) = ("MP4 or MOV video", "its metadata keys");
        boxes::mp4(&mut file, &mut found)
    } else if at(0, b"\x1a\x45\xdf\xa3") {
        (found.kind, found.place) = ("WebM or MKV video", "its tags");
        matroska::read(&mut file, &mut found)
    } else if at(0, b"fLaC") {
        (found.kind, found.place) = ("FLAC sound", "its comments");
        audio::flac(&mut file, &mut found)
    } else if at(0, b"OggS") {
        (found.kind, found.place) = ("Ogg sound", "its comments");
        audio::ogg(&mut file, &mut found)
    } else if at(0, b"ID3") || (at(0, b"\xff") && start.get(1).is_some_and(|b| b & 0xe0 == 0xe0)) {
        (found.kind, found.place) = ("MP3 sound", "its ID3 tags");
        audio::mp3(&mut file, &mut found)
    } else if at(0, b"glTF") {
        (found.kind, found.place) = ("GLB model", "asset.extras");
        texts::glb(&mut file, &mut found)
    } else if texts::is_safetensors(&start, file.len()) {
        (found.kind, found.place) = ("safetensors file", "the metadata of its header");
        texts::safetensors(&mut file, &mut found)
    } else if texts::is_svg(&file.peek(1024)?) {
        (found.kind, found.place) = ("SVG picture", "its metadata element");
        texts::svg(&mut file, &mut found)
    } else {
        return Ok(None);
    };
    match read {
        Ok(()) => Ok(Some(found)),
        // A file that ends early has what was found before.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(found)),
        Err(error) => Err(error),
    }
}

impl Found {
    /// A text of metadata. The first of a name counts.
    fn text(&mut self, name: &str, text: &[u8]) {
        let place = match name.to_ascii_lowercase().as_str() {
            "prompt" => &mut self.prompt,
            "workflow" => &mut self.workflow,
            "parameters" => {
                self.foreign = true;
                return;
            }
            _ => return,
        };
        if place.is_none() {
            *place = Some(trimmed(text).to_vec());
        }
    }

    /// An object that may have both as members, as values or as texts.
    fn object(&mut self, object: &Map<String, Value>) {
        for (name, value) in object {
            match value {
                Value::String(text) => self.text(name, text.as_bytes()),
                Value::Object(_) if NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)) => {
                    self.text(name, value.to_string().as_bytes());
                }
                _ => {}
            }
        }
    }

    /// A comment that may be such an object.
    fn comment(&mut self, text: &[u8]) {
        if let Ok(Value::Object(object)) = crate::json::parse(trimmed(text).to_vec()) {
            self.object(&object);
        }
    }

    /// `name=text` of Vorbis comments, `name:text` of EXIF.
    fn entry(&mut self, entry: &[u8], between: u8) {
        if let Some(at) = entry.iter().take(64).position(|byte| *byte == between) {
            let name = String::from_utf8_lossy(&entry[..at]).trim().to_owned();
            self.text(&name, &entry[at + 1..]);
        }
    }

    /// The graph that counts.
    ///
    /// # Errors
    /// A sentence that says what kind of file it is and what was looked for.
    pub fn graph(self, preference: Preference) -> Result<Recognised, String> {
        let prompt = self
            .prompt
            .map(|text| recognise_text(&utf8(text)).map(cleaned));
        let workflow = self
            .workflow
            .map(|text| recognise_text(&utf8(text)).map(cleaned));
        let both = match preference {
            Preference::Prompt => [prompt, workflow],
            Preference::Workflow => [workflow, prompt],
        };
        let mut why = None;
        for one in both.into_iter().flatten() {
            match one {
                Ok(found) => return Ok(found),
                Err(error) => why = why.or(Some(error)),
            }
        }
        Err(match why {
            Some(why) => format!(
                "This {} has metadata of ComfyUI that is no workflow: {why}",
                self.kind
            ),
            None if self.foreign => format!(
                "This {} was made by another program than ComfyUI (it has \"parameters\", as \
                 A1111 writes them) and holds no workflow",
                self.kind
            ),
            None => format!(
                "This {} holds no workflow: neither \"prompt\" nor \"workflow\" was found in {}",
                self.kind, self.place
            ),
        })
    }
}

/// What ComfyUI adds to nodes while it runs them is no part of the graph.
fn cleaned(found: Recognised) -> Recognised {
    let Recognised::Api(mut graph) = found else {
        return found;
    };
    for node in graph.values_mut().filter_map(Value::as_object_mut) {
        if node.contains_key("class_type") {
            node.retain(|name, _| matches!(name.as_str(), "class_type" | "inputs" | "_meta"));
        }
    }
    Recognised::Api(graph)
}

/// UTF-8, else Latin-1.
fn utf8(text: Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(&text) {
        Ok(_) => text,
        Err(_) => text
            .iter()
            .map(|byte| char::from(*byte))
            .collect::<String>()
            .into_bytes(),
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let from = text
        .iter()
        .position(|byte| !is_padding(byte))
        .unwrap_or(text.len());
    let to = text
        .iter()
        .rposition(|byte| !is_padding(byte))
        .map_or(from, |at| at + 1);
    text.get(from..to).unwrap_or_default()
}

/// Bytes in which graphs are looked for, or which are JSON themselves.
///
/// # Errors
/// A sentence that says what was found and what is wanted.
pub fn recognise_bytes(bytes: &[u8], preference: Preference) -> Result<Recognised, String> {
    read(&mut io::Cursor::new(bytes), preference)
}

/// The same of a file.
///
/// # Errors
/// A sentence that says what was found and what is wanted.
pub fn read<R: Read + Seek>(source: &mut R, preference: Preference) -> Result<Recognised, String> {
    let cannot = |error: io::Error| format!("The file cannot be read: {error}");
    if let Some(found) = find(source).map_err(cannot)? {
        return found.graph(preference);
    }
    source.rewind().map_err(cannot)?;
    let mut text = Vec::new();
    source
        .by_ref()
        .take(LONGEST * 2)
        .read_to_end(&mut text)
        .map_err(cannot)?;
    let start = trimmed(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text))
        .first()
        .copied();
    if !matches!(
        start,
        Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N')
    ) {
        return Err(
            "This is neither JSON nor a file of a kind that can hold a workflow (PNG, WebP, JPEG, \
             AVIF, MP4, MOV, WebM, MKV, FLAC, Ogg, MP3, SVG, GLB, safetensors)"
                .to_owned(),
        );
    }
    // A file with both formats, such as the editor's own test data.
    match preference {
        Preference::Prompt => recognise_text(&text),
        Preference::Workflow => preferring_workflow(&text),
    }
}

fn preferring_workflow(text: &[u8]) -> Result<Recognised, String> {
    if let Ok(Value::Object(object)) = crate::json::parse(text.to_vec())
        && let Some(workflow) = object.get("workflow")
        && let Ok(found) = recognise(workflow.clone())
    {
        return Ok(found);
    }
    recognise_text(text)
}
