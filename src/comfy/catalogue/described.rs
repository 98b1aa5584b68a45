//! The description of all nodes as ComfyUI gives it, kept packed.

use std::fmt;
use std::io::{Read, Write};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
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

    /// One node class as it is described; the others are skipped. Blocks.
    pub fn class(&self, name: &str) -> Option<Value> {
        let unpacking = flate2::read::GzDecoder::new(self.gzip.as_slice());
        let reading = std::io::BufReader::new(unpacking.take(LONGEST));
        let mut json = serde_json::Deserializer::from_reader(reading);
        Member(name).deserialize(&mut json).ok().flatten()
    }
}

/// No description has more bytes than this.
const LONGEST: u64 = 256 << 20;

/// Reads one member of an object.
struct Member<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            if name == self.0 {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_class_is_found_among_all() {
        let info = json!({"A": {"input": {"required": {}}}, "B": {"output": ["IMAGE"]}, "C": 3});
        let described = Described::of(&info).unwrap();
        assert_eq!(described.class("B"), Some(json!({"output": ["IMAGE"]})));
        assert_eq!(described.class("D"), None);
        let broken = Described {
            gzip: b"no gzip".to_vec(),
            hash: String::new(),
        };
        assert_eq!(broken.class("A"), None);
    }
}
