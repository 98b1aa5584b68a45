//! WebM and Matroska: simple tags, wherever they stand.

use std::io::{self, Read, Seek};

use super::{File, Found};

const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const TAGS: u32 = 0x1254_c367;
const TAG: u32 = 0x7373;
const SIMPLE_TAG: u32 = 0x67c8;
const TAG_NAME: u32 = 0x45a3;
const TAG_STRING: u32 = 0x4487;

pub fn read<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let mut name = String::new();
    loop {
        file.part()?;
        let id = id(file)?;
        let size = size(file)?;
        match (id, size) {
            // What is inside comes next.
            (SEGMENT | TAGS | TAG | SIMPLE_TAG, _) | (CLUSTER, None) => {}
            (TAG_NAME, Some(size)) => {
                let bytes = file.bytes(size)?;
                name = String::from_utf8_lossy(&bytes)
                    .trim_end_matches('\0')
                    .to_ascii_lowercase();
            }
            (TAG_STRING, Some(size))
                if matches!(
                    name.as_str(),
                    "prompt" | "workflow" | "comment" | "parameters"
                ) =>
            {
                let text = file.bytes(size)?;
                match name.as_str() {
                    "comment" => found.comment(&text),
                    name => found.text(name, &text),
                }
            }
            (_, Some(size)) => file.skip(size)?,
            (_, None) => return Ok(()),
        }
        if file.position()? >= file.len() {
            return Ok(());
        }
    }
}

fn id<R: Read + Seek>(file: &mut File<'_, R>) -> io::Result<u32> {
    let first = file.u8()?;
    let length = first.leading_zeros();
    if length > 3 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut id = u32::from(first);
    for _ in 0..length {
        id = id << 8 | u32::from(file.u8()?);
    }
    Ok(id)
}

/// None when it is not known, as while recording.
fn size<R: Read + Seek>(file: &mut File<'_, R>) -> io::Result<Option<u64>> {
    let first = file.u8()?;
    let length = first.leading_zeros();
    if length > 7 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut size = u64::from(first) & ((1 << (7 - length)) - 1);
    for _ in 0..length {
        size = size << 8 | u64::from(file.u8()?);
    }
    let unknown = (1_u64 << (7 * (length + 1))) - 1;
    Ok((size != unknown).then_some(size))
}
