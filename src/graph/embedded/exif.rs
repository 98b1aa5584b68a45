//! EXIF: texts of the first directory, whatever their tags.

use super::Found;

/// The type of texts.
const ASCII: u16 = 2;

pub fn read(bytes: &[u8], found: &mut Found) {
    let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
    let _ = texts(bytes, found);
}

fn texts(bytes: &[u8], found: &mut Found) -> Option<()> {
    let little = match bytes.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let two: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(two)
        } else {
            u16::from_be_bytes(two)
        })
    };
    let u32_at = |at: usize| -> Option<usize> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let number = if little {
            u32::from_le_bytes(four)
        } else {
            u32::from_be_bytes(four)
        };
        usize::try_from(number).ok()
    };
    let directory = u32_at(4)?;
    let count = usize::from(u16_at(directory)?);
    for entry in 0..count {
        let at = directory.checked_add(2 + entry * 12)?;
        if u16_at(at.checked_add(2)?)? != ASCII {
            continue;
        }
        let length = u32_at(at + 4)?;
        let from = if length <= 4 { at + 8 } else { u32_at(at + 8)? };
        if let Some(text) = bytes.get(from..from.checked_add(length)?) {
            found.entry(text, b':');
        }
    }
    Some(())
}
