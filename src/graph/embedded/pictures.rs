//! PNG, WebP and JPEG.

use std::io::{self, Read, Seek};

use super::{File, Found, LONGEST, exif};

pub fn png<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    file.go(8)?;
    loop {
        file.part()?;
        let length = u64::from(file.u32()?);
        let kind: [u8; 4] = file.array()?;
        match &kind {
            b"tEXt" | b"iTXt" | b"zTXt" | b"comf" => {
                let chunk = file.bytes(length)?;
                png_text(&kind, &chunk, found);
                file.skip(4)?;
            }
            b"IEND" => return Ok(()),
            _ => file.skip(length + 4)?,
        }
    }
}

fn png_text(kind: &[u8; 4], chunk: &[u8], found: &mut Found) {
    let Some((name, rest)) = split(chunk) else {
        return;
    };
    let name = String::from_utf8_lossy(name).into_owned();
    match kind {
        b"iTXt" => {
            let (Some(deflated), Some(rest)) = (rest.first(), rest.get(2..)) else {
                return;
            };
            let Some((_, rest)) = split(rest) else { return };
            let Some((_, text)) = split(rest) else { return };
            if *deflated == 1 {
                found.text(&name, &inflated(text));
            } else {
                found.text(&name, text);
            }
        }
        b"zTXt" => found.text(&name, &inflated(rest.get(1..).unwrap_or_default())),
        _ => found.text(&name, rest),
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = flate2::read::ZlibDecoder::new(bytes)
        .take(LONGEST)
        .read_to_end(&mut text);
    text
}

pub fn webp<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    file.go(12)?;
    loop {
        file.part()?;
        let kind: [u8; 4] = file.array()?;
        let length = u64::from(file.u32_le()?);
        if &kind == b"EXIF" {
            exif::read(&file.bytes(length)?, found);
            file.skip(length % 2)?;
        } else {
            file.skip(length + length % 2)?;
        }
    }
}

pub fn jpeg<R: Read + Seek>(file: &mut File<'_, R>, found: &mut Found) -> io::Result<()> {
    file.go(2)?;
    loop {
        file.part()?;
        if file.u8()? != 0xff {
            return Ok(());
        }
        let mut marker = file.u8()?;
        while marker == 0xff {
            marker = file.u8()?;
        }
        match marker {
            // The picture itself, or its end.
            0xda | 0xd9 => return Ok(()),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = u64::from(u16::from_be_bytes(file.array()?)).saturating_sub(2);
        if marker == 0xe1 {
            let segment = file.bytes(length)?;
            if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                exif::read(exif, found);
            }
        } else {
            file.skip(length)?;
        }
    }
}
