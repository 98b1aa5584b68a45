//! Files made of boxes: MP4, MOV, M4V and AVIF.

use std::io::{self, Read, Seek};

use super::{File, Found, exif};

/// A box: its kind, and where its content begins and ends.
struct Part {
    kind: [u8; 4],
    from: u64,
    to: u64,
}

/// The boxes between two places.
fn parts<R: Read + Seek>(file: &mut File<'_, R>, from: u64, to: u64) -> io::Result<Vec<Part>> {
    let to = to.min(file.len());
    let mut parts = Vec::new();
    let mut at = from;
    while to.saturating_sub(at) >= 8 {
        file.part()?;
        file.go(at)?;
        let size = u64::from(file.u32()?);
        let kind = file.array()?;
        let (size, header) = match size {
            0 => (to - at, 8),
            1 => (file.u64()?, 16),
            size => (size, 8),
        };
        if size < header {
            break;
        }
        let end = at.saturating_add(size);
        parts.push(Part {
            kind,
            from: at + header,
            to: end.min(to),
        });
        at = end;
    }
    Ok(parts)
}

fn inside<R: Read + Seek>(file: &mut File<'_, R>, part: &Part) -> io::Result<Vec<Part>> {
    parts(file, part.from, part.to)
}

pub fn mp4<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let end = file.len();
    for moov in parts(file, 0, end)?
        .iter()
        .filter(|part| &part.kind == b"moov")
    {
        for part in inside(file, moov)? {
            match &part.kind {
                b"meta" => meta(file, &part, found)?,
                b"udta" => {
                    for part in inside(file, &part)? {
                        match &part.kind {
                            b"meta" => meta(file, &part, found)?,
                            // QuickTime's own comment: length and language in front.
                            b"\xa9cmt" => {
                                let text = file_bytes(file, &part)?;
                                found.comment(text.get(4..).unwrap_or_default());
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn file_bytes<R: Read + Seek>(file: &mut File<'_, R>, part: &Part) -> io::Result<Vec<u8>> {
    file.go(part.from)?;
    file.bytes(part.to.saturating_sub(part.from))
}

fn meta<R: Read + Seek>(file: &mut File<'_, R>, meta: &Part, found: &mut Found) -> io::Result<()> {
    // MP4 has version and flags in front, QuickTime has not.
    file.go(meta.from)?;
    let start = file.peek(8)?;
    let has_version = start.get(4..8).is_none_or(|kind| kind != b"hdlr");
    let from = meta.from + if has_version { 4 } else { 0 };
    let parts_inside = parts(file, from, meta.to)?;
    let mut keys = Vec::new();
    for part in parts_inside.iter().filter(|part| &part.kind == b"keys") {
        file.go(part.from)?;
        file.skip(4)?;
        let count = file.u32()?;
        for _ in 0..count {
            file.part()?;
            let size = u64::from(file.u32()?);
            file.skip(4)?;
            keys.push(file.bytes(size.saturating_sub(8))?);
        }
    }
    for part in parts_inside.iter().filter(|part| &part.kind == b"ilst") {
        for entry in inside(file, part)? {
            let number = usize::try_from(u32::from_be_bytes(entry.kind)).unwrap_or(0);
            let name = match number.checked_sub(1).and_then(|place| keys.get(place)) {
                Some(key) => String::from_utf8_lossy(key).to_ascii_lowercase(),
                None if &entry.kind == b"\xa9cmt" => "comment".to_owned(),
                None => continue,
            };
            let name = name.rsplit('.').next().unwrap_or_default().to_owned();
            if !matches!(
                name.as_str(),
                "prompt" | "workflow" | "comment" | "parameters"
            ) {
                continue;
            }
            for data in inside(file, &entry)?
                .iter()
                .filter(|part| &part.kind == b"data")
            {
                let value = file_bytes(file, data)?;
                let text = value.get(8..).unwrap_or_default();
                match name.as_str() {
                    "comment" => found.comment(text),
                    name => found.text(name, text),
                }
            }
        }
    }
    Ok(())
}

pub fn avif<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let end = file.len();
    for meta in parts(file, 0, end)?
        .iter()
        .filter(|part| &part.kind == b"meta")
    {
        let inside = parts(file, meta.from + 4, meta.to)?;
        let mut read = |kind: &[u8; 4]| match inside.iter().find(|part| &part.kind == kind) {
            Some(part) => file_bytes(file, part).map(Some),
            None => Ok(None),
        };
        let (Some(items), Some(places)) = (read(b"iinf")?, read(b"iloc")?) else {
            continue;
        };
        let data = inside
            .iter()
            .find(|part| &part.kind == b"idat")
            .map(|part| part.from);
        let Some(item) = exif_item(&items) else {
            continue;
        };
        for (from, length, in_data) in extents(&places, item).unwrap_or_default() {
            let from = if in_data {
                data.unwrap_or(0).saturating_add(from)
            } else {
                from
            };
            file.go(from)?;
            let bytes = file.bytes(length)?;
            // In front is how far away the TIFF header is.
            let start = bytes
                .get(..4)
                .and_then(|four| <[u8; 4]>::try_from(four).ok());
            let away = start.map_or(0, |four| u32::from_be_bytes(four) as usize);
            exif::read(
                bytes.get(away.saturating_add(4)..).unwrap_or_default(),
                found,
            );
            exif::read(bytes.get(4..).unwrap_or_default(), found);
        }
    }
    Ok(())
}

/// Big-endian numbers out of a slice.
struct Numbers<'b>(&'b [u8]);

impl Numbers<'_> {
    fn take(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(
            number
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }
}

/// The id of the item of type `Exif`.
fn exif_item(items: &[u8]) -> Option<u64> {
    let mut numbers = Numbers(items);
    let version = numbers.take(1)?;
    numbers.take(3)?;
    let count = numbers.take(if version == 0 { 2 } else { 4 })?;
    for _ in 0..count {
        let size = usize::try_from(numbers.take(4)?).ok()?;
        let (entry, rest) = numbers.0.split_at_checked(size.checked_sub(4)?)?;
        numbers.0 = rest;
        let mut entry = Numbers(entry.get(4..)?);
        let version = entry.take(1)?;
        entry.take(3)?;
        let id = entry.take(if version == 3 { 4 } else { 2 })?;
        entry.take(2)?;
        if entry.0.starts_with(b"Exif") {
            return Some(id);
        }
    }
    None
}

/// Where an item is: from, length, and whether counted from `idat`.
fn extents(places: &[u8], item: u64) -> Option<Vec<(u64, u64, bool)>> {
    let mut numbers = Numbers(places);
    let version = numbers.take(1)?;
    numbers.take(3)?;
    let sizes = numbers.take(2)?;
    let size = |shift: u32| usize::try_from(sizes >> shift & 15).unwrap_or(0);
    let (offset, length, base, index) = (size(12), size(8), size(4), size(0));
    let count = numbers.take(if version < 2 { 2 } else { 4 })?;
    for _ in 0..count {
        let id = numbers.take(if version < 2 { 2 } else { 4 })?;
        let in_data = version > 0 && numbers.take(2)? & 15 == 1;
        numbers.take(2)?;
        let from = numbers.take(base)?;
        let mut extents = Vec::new();
        for _ in 0..numbers.take(2)? {
            if version > 0 {
                numbers.take(index)?;
            }
            let at = from.saturating_add(numbers.take(offset)?);
            extents.push((at, numbers.take(length)?, in_data));
        }
        if id == item {
            return Some(extents);
        }
    }
    None
}
