//! The description of all nodes as ComfyUI gives it, kept packed.

use std::io::Write;

use serde_json::Value;

/// `/object_info` in little room.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    /// Compressed JSON.
    pub gzip: Vec<u8>,
    /// BLAKE3 of the JSON, in hexadecimal.
    pub hash: String,
}

impl Described {
    pub(super) fn of(info: &Value) -> Option<Self> {
        let text = serde_json::to_vec(info).ok()?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).ok()?;
        Some(Self {
            gzip: gzip.finish().ok()?,
            hash: blake3::hash(&text).to_hex().to_string(),
        })
    }
}
