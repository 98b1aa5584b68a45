//! A JSON document some of whose strings are files: base64 of a 1 GiB video must not sit in memory.
//!
//! A [`Document`] is text with holes for files. It knows its length beforehand, can be streamed any
//! number of times (a webhook is hashed once and sent as often as needed), and keeps what its files
//! need alive through its keeper.

mod cursor;
mod placeholder;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use cursor::{Cursor, OpenFile, blocking};
use futures_util::stream;
use futures_util::stream::Stream;
use placeholder::find;
use serde::Serialize;
use serde_json::Value;

pub use placeholder::placeholder;

/// Raw bytes encoded at a time: a multiple of 3, so that chunks join without padding; 384 KiB is
/// 512 KiB of base64.
const CHUNK: usize = 384 * 1024;

#[derive(Debug, Clone)]
enum Part {
    Text(Bytes),
    /// Becomes a quoted base64 string.
    File(EmbeddedFile),
}

/// JSON text with holes for files. Cheap to clone.
#[derive(Clone)]
pub struct Document {
    parts: Arc<[Part]>,
    len: u64,
    /// Whatever must live as long as the document is used: usually the guard that deletes the
    /// files.
    _keeper: Option<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({} bytes)", self.len)
    }
}

/// A file that takes the place of a string in a document.
#[derive(Debug, Clone)]
pub struct EmbeddedFile {
    /// Where its bytes are.
    pub path: PathBuf,
    /// How many there are; the file must not change afterwards.
    pub size: u64,
    /// The bytes, where somebody has read them already.
    pub content: Option<Bytes>,
}

impl EmbeddedFile {
    /// Its bytes, if none has to be read.
    fn at_hand(&self) -> Option<&[u8]> {
        let nothing = (self.size == 0).then_some(&[][..]);
        self.content.as_deref().or(nothing)
    }
}

impl Document {
    /// A document without files.
    pub fn from_value(value: &Value) -> Self {
        Self::from_text(value.to_string())
    }

    /// A document of ready-made JSON text.
    pub fn from_text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let len = text.len() as u64;
        Self {
            parts: Arc::new([Part::Text(text)]),
            len,
            _keeper: None,
        }
    }

    /// A document whose `[i]`-th placeholder, the string made by [`placeholder`], is replaced by
    /// the base64 of `files[i]`. Placeholders that do not occur are not an error; each may occur
    /// any number of times.
    pub fn with_files(
        value: &impl Serialize,
        mark: &str,
        files: &[EmbeddedFile],
        keeper: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Self {
        // Bodies are maps with text keys, which cannot fail.
        let text = serde_json::to_vec(value).unwrap_or_default();
        Self::with_files_in(text.into(), mark, files, keeper)
    }

    fn with_files_in(
        text: Bytes,
        mark: &str,
        files: &[EmbeddedFile],
        keeper: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Self {
        let needle = format!("\"{mark}:");
        let mut parts = Vec::new();
        let mut rest = 0;
        let mut search = 0;
        while let Some(found) = find(&text[search..], needle.as_bytes()) {
            let start = search + found;
            let after = start + needle.len();
            let digits = text[after..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let index = std::str::from_utf8(&text[after..after + digits])
                .ok()
                .and_then(|digits| digits.parse::<usize>().ok());
            match index.and_then(|index| files.get(index)) {
                Some(file) if text.get(after + digits) == Some(&b'"') => {
                    parts.push(Part::Text(text.slice(rest..start)));
                    parts.push(Part::File(file.clone()));
                    rest = after + digits + 1;
                    search = rest;
                }
                _ => search = after,
            }
        }
        parts.push(Part::Text(text.slice(rest..)));
        Self::of(parts, keeper)
    }

    fn of(parts: Vec<Part>, keeper: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        let len = parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.len() as u64,
                Part::File(file) => quoted_len(file.size),
            })
            .sum();
        Self {
            parts: parts.into(),
            len,
            _keeper: keeper,
        }
    }

    /// The same document without its files, which must be the elements of one array: an empty array
    /// takes its place. Nothing is kept alive by it.
    #[must_use]
    pub fn without_files(&self) -> Self {
        let is_file = |part: &Part| matches!(part, Part::File(_));
        let (Some(first), Some(last)) = (
            self.parts.iter().position(is_file),
            self.parts.iter().rposition(is_file),
        ) else {
            return Self {
                _keeper: None,
                ..self.clone()
            };
        };
        Self::of(
            self.parts[..first]
                .iter()
                .chain(&self.parts[last + 1..])
                .cloned()
                .collect(),
            None,
        )
    }

    /// The same document between two texts: for envelopes.
    #[must_use]
    pub fn surrounded(&self, prefix: impl Into<Bytes>, suffix: impl Into<Bytes>) -> Self {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        let len = self.len + (prefix.len() + suffix.len()) as u64;
        let parts = std::iter::once(Part::Text(prefix))
            .chain(self.parts.iter().cloned())
            .chain([Part::Text(suffix)])
            .collect();
        Self {
            parts,
            len,
            _keeper: self._keeper.clone(),
        }
    }

    /// The same object with more members in front: `head` is `{"name":value,` and takes the place
    /// of the first `{`.
    #[must_use]
    pub fn with_head(&self, head: impl Into<Bytes>) -> Self {
        let head = head.into();
        let mut parts = vec![Part::Text(head.clone())];
        let mut len = self.len + head.len() as u64;
        for (index, part) in self.parts.iter().enumerate() {
            parts.push(match part {
                Part::Text(text) if index == 0 && text.first() == Some(&b'{') => {
                    len -= 1;
                    Part::Text(text.slice(1..))
                }
                other => other.clone(),
            });
        }
        Self {
            parts: parts.into(),
            len,
            _keeper: self._keeper.clone(),
        }
    }

    /// The same document with its text written anew; its files stay strings among the others. As it
    /// is, when `rewrite` gives nothing.
    #[must_use]
    pub fn rewritten(&self, rewrite: impl FnOnce(&str) -> Option<String>) -> Self {
        let mark = uuid::Uuid::new_v4().to_string();
        let mut text = Vec::with_capacity(usize::try_from(self.text_len()).unwrap_or(0));
        let mut files = Vec::new();
        for part in &*self.parts {
            match part {
                Part::Text(part) => text.extend_from_slice(part),
                Part::File(file) => {
                    text.push(b'"');
                    text.extend_from_slice(placeholder(&mark, files.len()).as_bytes());
                    text.push(b'"');
                    files.push(file.clone());
                }
            }
        }
        match std::str::from_utf8(&text).ok().and_then(rewrite) {
            Some(text) => Self::with_files_in(text.into(), &mark, &files, self._keeper.clone()),
            None => self.clone(),
        }
    }

    /// Length of the whole text in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are files in it.
    pub fn has_files(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::File(_)))
    }

    /// How much of it is in memory, in bytes; the rest is in files.
    pub fn text_len(&self) -> u64 {
        self.parts
            .iter()
            .map(|part| {
                if let Part::Text(text) = part {
                    text.len() as u64
                } else {
                    0
                }
            })
            .sum()
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The text from the beginning, file contents read as they are needed.
    /// A file that has vanished or changed its size ends the stream with an error.
    pub fn stream(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let state = Cursor {
            document: self.clone(),
            next: 0,
            open: None,
        };
        stream::try_unfold(state, |mut state| async move {
            Ok(state.next_chunk().await?.map(|bytes| (bytes, state)))
        })
    }

    /// The whole text in memory, for small documents and for peers that take nothing else. All
    /// files are read in one go: each change to a blocking thread costs more than reading a
    /// picture; and here, if all of them are in memory.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn collect(&self) -> io::Result<Bytes> {
        if let [Part::Text(text)] = &*self.parts {
            return Ok(text.clone());
        }
        let here = |part: &Part| match part {
            Part::Text(_) => true,
            Part::File(file) => file.at_hand().is_some(),
        };
        if self.parts.iter().all(here) {
            return self.read();
        }
        let document = self.clone();
        blocking(move || document.read()).await
    }

    fn read(&self) -> io::Result<Bytes> {
        let mut all = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        for part in &*self.parts {
            match part {
                Part::Text(text) => all.extend_from_slice(text),
                Part::File(file) => {
                    if let Some(content) = file.at_hand() {
                        quoted(content, &mut all);
                        continue;
                    }
                    let mut file = OpenFile::open(&file.path, file.size)?;
                    while file.read(&mut all)? {}
                }
            }
        }
        Ok(Bytes::from(all))
    }
}

/// The length of so many bytes as a string of base64.
const fn quoted_len(bytes: u64) -> u64 {
    bytes.div_ceil(3) * 4 + 2
}

/// Appends bytes as a string of base64.
fn quoted(bytes: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    base64_simd::STANDARD.encode_append(bytes, text);
    text.push(b'"');
}

/// Base64 of a small value in memory.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
