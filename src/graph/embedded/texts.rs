//! Files whose metadata is JSON or XML: GLB, safetensors (and `.latent`), SVG.

use std::io::{self, Read, Seek};

use serde_json::Value;

use super::{File, Found, LONGEST};
use crate::json;

pub fn glb<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    file.go(12)?;
    let length = u64::from(file.u32_le()?);
    if &file.array::<4>()? != b"JSON" {
        return Ok(());
    }
    let scene = json::parse(file.bytes(length)?).unwrap_or_default();
    if let Some(Value::Object(extras)) = scene.pointer("/asset/extras") {
        found.object(extras);
    }
    Ok(())
}

/// The length of a header, and its first brace.
pub fn is_safetensors(start: &[u8], file: u64) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && length >= 2 && length <= file.saturating_sub(8)
}

pub fn safetensors<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let length = u64::from_le_bytes(file.array()?);
    let header = json::parse(file.bytes(length)?).unwrap_or_default();
    if let Some(Value::Object(metadata)) = header.get("__metadata__") {
        found.object(metadata);
    }
    Ok(())
}

pub fn is_svg(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("<svg") || (text.starts_with('<') && text.contains("<svg"))
}

pub fn svg<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let length = file.len().min(LONGEST);
    let bytes = file.bytes(length)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut rest = text.as_ref();
    while let Some((_, after)) = rest.split_once("<metadata") {
        let Some((_, content)) = after.split_once('>') else {
            return Ok(());
        };
        let (content, after) = content.split_once("</metadata>").unwrap_or((content, ""));
        rest = after;
        let cdata = content
            .trim()
            .strip_prefix("<![CDATA[")
            .and_then(|c| c.rsplit_once("]]>"));
        let text = match cdata {
            Some((text, _)) => text.to_owned(),
            None => content
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&#39;", "'")
                .replace("&amp;", "&"),
        };
        found.comment(text.as_bytes());
    }
    Ok(())
}
