//! The least of ComfyUI's websocket: frames as text, and the id of the prompt that has ended.

use std::io::Read;

/// One frame as text; `None` at the end. Servers do not mask, and ComfyUI does not fragment.
pub fn frame(reader: &mut impl Read) -> Option<String> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    let length = match head[1] {
        126 => {
            let mut long = [0; 2];
            reader.read_exact(&mut long).ok()?;
            u64::from(u16::from_be_bytes(long))
        }
        127 => {
            let mut long = [0; 8];
            reader.read_exact(&mut long).ok()?;
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let mut body = vec![0; usize::try_from(length).ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

/// Whether a message says that a prompt has ended.
pub fn is_end(message: &str) -> bool {
    message.contains("\"executing\"")
        && (message.contains("\"node\": null") || message.contains("\"node\":null"))
}
