//! What a model sees of a result: previews, sounds, texts, links. All of one result stays below
//! what clients take.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::context::Context;
use super::result::{File, MOST_OUTPUTS, text_block};
use crate::media;
use crate::net::http_fields::media_type;
use crate::store::AssetRecord;

/// Of one result, bytes. Many clients drop messages beyond 1 MiB.
const MOST: usize = 900_000;
/// For what is around the result, and for what is said at its end.
const AROUND: usize = 8_000;
/// Of one text, bytes.
pub const MOST_TEXT: usize = 64 * 1024;
/// Of one sound, bytes.
const MOST_SOUND: u64 = 512 * 1024;
/// A preview with fewer bytes than this tells nothing.
const LEAST_PREVIEW: usize = 6 * 1024;
/// What stands around the bytes of a block.
const FRAME: usize = 100;

/// Blocks, within the limit.
pub struct Content {
    blocks: Vec<Value>,
    /// Bytes that are left.
    left: usize,
    /// What is missing.
    missing: Vec<String>,
}

/// One block of a file, or its place.
enum Block {
    Done(Value),
    /// A picture, by its number among the files.
    Preview(usize),
}

impl Content {
    /// Begins with the structured result as JSON.
    pub fn new(structured: &Value) -> Self {
        let text = structured.to_string();
        let taken = text.len() + AROUND;
        let mut content = Self {
            blocks: Vec::new(),
            left: MOST.saturating_sub(taken),
            missing: Vec::new(),
        };
        content.push(text_block(&text));
        content
    }

    fn push(&mut self, block: Value) {
        self.left = self.left.saturating_sub(block.to_string().len() + 1);
        self.blocks.push(block);
    }

    /// A text that always fits.
    pub fn add_text(&mut self, text: &str) {
        self.push(text_block(text));
    }

    /// The files of a job, of which there are `all`.
    pub async fn add_files(&mut self, context: &Context, files: &[File], all: usize) {
        if all > files.len() {
            self.missing.push(format!(
                "The job made {all} files; the first {MOST_OUTPUTS} are described here. The \
                 others can be read by their index."
            ));
        }
        let links: usize = files
            .iter()
            .map(|file| link(file).to_string().len() + 1)
            .sum();
        self.left = self.left.saturating_sub(links);
        let mut blocks = Vec::new();
        let mut pictures = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let kind = media_type(&file.asset.content_type).to_owned();
            let Some(path) = &file.path else {
                self.missing
                    .push(format!("The bytes of {} are gone.", file.asset.file_path));
                blocks.push(Block::Done(link(file)));
                continue;
            };
            if kind.starts_with("image/") || kind.starts_with("video/") {
                pictures.push(number);
                blocks.push(Block::Preview(number));
            } else if kind.starts_with("audio/") {
                blocks.extend(self.sound(file, path, &kind).await.map(Block::Done));
            } else if is_text(&kind) {
                blocks.extend(self.text(file, path).await.map(Block::Done));
            }
            blocks.push(Block::Done(link(file)));
        }
        let previews = self.previews(context, files, &pictures).await;
        for block in blocks {
            match block {
                Block::Done(value) => self.blocks.push(value),
                Block::Preview(number) => {
                    let found = previews.iter().find(|(of, _)| *of == number);
                    self.blocks.extend(found.map(|(_, value)| value.clone()));
                }
            }
        }
    }

    /// Takes room for a block that has its place later.
    fn take(&mut self, block: Value) -> Option<Value> {
        let length = block.to_string().len() + 1;
        self.left = self.left.checked_sub(length)?;
        Some(block)
    }

    async fn sound(&mut self, file: &File, path: &Path, kind: &str) -> Option<Value> {
        let name = &file.asset.file_path;
        if file.asset.size > MOST_SOUND {
            self.missing
                .push(format!("The sound {name} is too large to be put here."));
            return None;
        }
        let bytes = tokio::fs::read(path).await.ok()?;
        let block = json!({"type": "audio", "data": STANDARD.encode(bytes), "mimeType": kind});
        let taken = self.take(block);
        if taken.is_none() {
            self.missing
                .push(format!("There was no room for the sound {name}."));
        }
        taken
    }

    async fn text(&mut self, file: &File, path: &Path) -> Option<Value> {
        let name = &file.asset.file_path;
        let mut bytes = Vec::new();
        let opened = tokio::fs::File::open(path).await.ok()?;
        let mut part = opened.take(MOST_TEXT as u64 + 4);
        part.read_to_end(&mut bytes).await.ok()?;
        let cut = bytes.len() > MOST_TEXT;
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if cut {
            let mut end = MOST_TEXT.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        let taken = self.take(text_block(&text));
        match (&taken, cut) {
            (None, _) => self
                .missing
                .push(format!("There was no room for the text {name}.")),
            (Some(_), true) => self.missing.push(format!(
                "The text {name} has {} bytes; it is cut after {MOST_TEXT}.",
                file.asset.size
            )),
            (Some(_), false) => {}
        }
        taken
    }

    /// Previews of pictures: each has its share of what is left; when the shares become too small,
    /// the first ones count.
    async fn previews(
        &mut self,
        context: &Context,
        files: &[File],
        pictures: &[usize],
    ) -> Vec<(usize, Value)> {
        let least = LEAST_PREVIEW / 3 * 4 + FRAME;
        let Ok(_turn) = context.state.previews.acquire().await else {
            return Vec::new();
        };
        let mut made = Vec::new();
        let (mut failed, mut no_room) = (0_usize, 0_usize);
        for (done, number) in pictures.iter().enumerate() {
            let waiting = (pictures.len() - done).min((self.left / least).max(1));
            let share = self.left / waiting;
            let room = share.saturating_sub(FRAME) / 4 * 3;
            if room < LEAST_PREVIEW {
                no_room = pictures.len() - done;
                break;
            }
            let Some(file) = files.get(*number) else {
                continue;
            };
            match preview(context, file, room).await {
                Some(block) => match self.take(block) {
                    Some(block) => made.push((*number, block)),
                    None => no_room += 1,
                },
                None => failed += 1,
            }
        }
        if no_room > 0 {
            self.missing.push(format!(
                "There was no room for the previews of the last {no_room} pictures: read them by \
                 their uri."
            ));
        }
        if failed > 0 {
            self.missing
                .push(format!("Of {failed} files no preview could be made."));
        }
        made
    }

    /// All blocks; the last one says what is missing.
    pub fn into_blocks(mut self) -> Vec<Value> {
        if !self.missing.is_empty() {
            let mut said = self.missing.join("\n");
            if said.len() > AROUND / 2 {
                let mut end = AROUND / 2;
                while !said.is_char_boundary(end) {
                    end -= 1;
                }
                said.truncate(end);
                said.push('…');
            }
            self.blocks.push(text_block(&said));
        }
        self.blocks
    }
}

fn link(file: &File) -> Value {
    json!({
        "type": "resource_link",
        "uri": file.value["uri"],
        "name": file.asset.file_path,
        "mimeType": file.asset.content_type,
        "size": file.asset.size,
    })
}

/// Whether a media type is text that a model can read.
pub fn is_text(kind: &str) -> bool {
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/json" | "application/xml" | "application/yaml" | "application/x-yaml"
        )
}

async fn preview(context: &Context, file: &File, room: usize) -> Option<Value> {
    let path = file.path.as_deref()?;
    let spec = media::ThumbnailSpec {
        longest_side: context.state.rest.config.mcp.preview_px,
        transparent: media::Transparent::Png,
        max_bytes: Some(room),
    };
    let made = context.state.media.thumbnail(path, spec).await;
    let small = made
        .map_err(|reason| tracing::debug!(file = file.asset.file_path, reason, "no preview"))
        .ok()??;
    let data = STANDARD.encode(&small.bytes);
    Some(json!({"type": "image", "data": data, "mimeType": small.content_type}))
}

/// Adds what is known of a picture's or video's size, and of how long something lasts.
pub async fn measure(context: &Context, asset: &AssetRecord, path: &Path, value: &mut Value) {
    let kind = media_type(&asset.content_type);
    let measured = if kind.starts_with("image/") {
        let path = path.to_path_buf();
        let measuring = tokio::task::spawn_blocking(move || media::dimensions(&path)).await;
        measuring.ok().flatten().map(|size| (Some(size), None))
    } else if kind.starts_with("video/") || kind.starts_with("audio/") {
        context.state.media.probe(path).await
    } else {
        None
    };
    let Some((size, seconds)) = measured else {
        return;
    };
    if let Some((width, height)) = size {
        value["width"] = width.into();
        value["height"] = height.into();
    }
    if let Some(seconds) = seconds {
        value["duration"] = seconds.into();
    }
}
