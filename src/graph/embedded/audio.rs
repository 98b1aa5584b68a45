//! FLAC, Ogg and MP3.

use std::io::{self, Read, Seek};

use super::{File, Found, LONGEST};

pub fn flac<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    file.go(4)?;
    loop {
        file.part()?;
        let header = file.u32()?;
        let (kind, length) = (header >> 24, u64::from(header & 0x00ff_ffff));
        if kind & 0x7f == 4 {
            comments(&file.bytes(length)?, found);
        } else {
            file.skip(length)?;
        }
        if kind & 0x80 != 0 {
            return Ok(());
        }
    }
}

/// The second packet of the first stream.
pub fn ogg<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    let mut stream = None;
    let mut packets = 0;
    let mut packet = Vec::new();
    loop {
        file.part()?;
        if &file.array::<4>()? != b"OggS" {
            return Ok(());
        }
        file.skip(10)?;
        let serial = file.u32()?;
        file.skip(8)?;
        let count = u64::from(file.u8()?);
        let lengths = file.bytes(count)?;
        let ours = *stream.get_or_insert(serial) == serial;
        for length in lengths {
            let bytes = file.bytes(u64::from(length))?;
            if !ours {
                continue;
            }
            if packets == 1 {
                packet.extend_from_slice(&bytes);
                if packet.len() as u64 > LONGEST {
                    return Ok(());
                }
            }
            if length < 255 {
                packets += 1;
            }
            if packets == 2 {
                let headers: [&[u8]; 3] = [b"OpusTags", b"\x03vorbis", b"\x7fFLAC"];
                let list = headers
                    .iter()
                    .find_map(|header| packet.strip_prefix(*header));
                // FLAC in Ogg has a block header of four bytes.
                comments(
                    list.unwrap_or_else(|| packet.get(4..).unwrap_or_default()),
                    found,
                );
                return Ok(());
            }
        }
    }
}

/// Vorbis comments: little-endian lengths, `name=text`.
fn comments(bytes: &[u8], found: &mut Found) {
    let mut rest = bytes;
    let mut next = || -> Option<u32> {
        let (four, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_le_bytes(*four))
    };
    let Some(vendor) = next().and_then(|length| usize::try_from(length).ok()) else {
        return;
    };
    let Some(mut rest) = rest.get(vendor..) else {
        return;
    };
    let Some((count, after)) = rest.split_first_chunk::<4>() else {
        return;
    };
    rest = after;
    for _ in 0..u32::from_le_bytes(*count) {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return;
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((entry, after)) = after.split_at_checked(length) else {
            return;
        };
        let is_comment = entry
            .get(..8)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"comment="));
        if is_comment {
            found.comment(entry.get(8..).unwrap_or_default());
        } else {
            found.entry(entry, b'=');
        }
        rest = after;
    }
}

pub fn mp3<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    if &file.array::<3>()? != b"ID3" {
        return Ok(());
    }
    let version = file.u8()?;
    file.skip(1)?;
    let flags = file.u8()?;
    let size = syncsafe(file.u32()?);
    let mut tag = file.bytes(u64::from(size))?;
    if flags & 0x80 != 0 && version < 4 {
        tag = synchronised(&tag);
    }
    let mut rest = tag.as_slice();
    if flags & 0x40 != 0 {
        // An extended header.
        let Some(four) = rest.first_chunk::<4>() else {
            return Ok(());
        };
        let size = u32::from_be_bytes(*four);
        let size = if version >= 4 {
            syncsafe(size)
        } else {
            size.saturating_add(4)
        };
        rest = rest.get(size as usize..).unwrap_or_default();
    }
    while let Some((header, after)) = rest.split_first_chunk::<10>() {
        file.part()?;
        let size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let size = if version >= 4 { syncsafe(size) } else { size };
        let Some((frame, after)) = after.split_at_checked(size as usize) else {
            return Ok(());
        };
        if header.starts_with(b"TXXX") {
            let unsynchronised = version >= 4 && header[9] & 0x02 != 0;
            // A length in front.
            let frame = if version >= 4 && header[9] & 0x01 != 0 {
                frame.get(4..).unwrap_or_default()
            } else {
                frame
            };
            if unsynchronised {
                user_text(&synchronised(frame), found);
            } else {
                user_text(frame, found);
            }
        } else if header[0] == 0 {
            return Ok(());
        }
        rest = after;
    }
    Ok(())
}

const fn syncsafe(size: u32) -> u32 {
    (size & 0x7f) | (size & 0x7f00) >> 1 | (size & 0x007f_0000) >> 2 | (size & 0x7f00_0000) >> 3
}

/// Zeros that were put behind 0xff go.
fn synchronised(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut after_ff = false;
    for byte in bytes {
        if !(after_ff && *byte == 0) {
            plain.push(*byte);
        }
        after_ff = *byte == 0xff;
    }
    plain
}

/// A description and a text in one of four encodings.
fn user_text(frame: &[u8], found: &mut Found) {
    let Some((encoding, rest)) = frame.split_first() else {
        return;
    };
    let text = match encoding {
        0 => rest.iter().map(|byte| char::from(*byte)).collect(),
        1 | 2 => utf16(rest, *encoding == 2),
        _ => String::from_utf8_lossy(rest).into_owned(),
    };
    let Some((name, value)) = text.split_once('\0') else {
        return;
    };
    if name.eq_ignore_ascii_case("comment") {
        found.comment(value.as_bytes());
    } else {
        found.text(name, value.as_bytes());
    }
}

fn utf16(bytes: &[u8], big: bool) -> String {
    let mut big = big;
    let units = bytes.chunks_exact(2).filter_map(|pair| {
        let pair = [pair[0], pair[1]];
        match pair {
            // Each of the two texts has a mark of its own.
            [0xff, 0xfe] => {
                big = false;
                None
            }
            [0xfe, 0xff] => {
                big = true;
                None
            }
            pair => Some(if big {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            }),
        }
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
