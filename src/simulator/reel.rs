//! A minimal MP4: one video track whose samples are JPEG pictures.

use super::picture::{Picture, jpeg};

/// The file of these frames.
pub fn mp4(frames: &[Picture], fps: f64) -> Result<Vec<u8>, String> {
    let first = frames.first().ok_or("a video without frames")?;
    let samples = frames
        .iter()
        .map(|frame| jpeg(&frame.scaled(first.width, first.height), 90))
        .collect::<Result<Vec<_>, _>>()?;
    let count = u32::try_from(samples.len()).map_err(|e| e.to_string())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let scale = (fps.clamp(0.01, 1000.0) * 1000.0) as u32;
    let duration = count.saturating_mul(1000);
    let kind = atom(b"ftyp", &[b"isom\0\0\x02\0isomiso2mp41"]);
    let data = samples.concat();
    let offset = u32::try_from(kind.len() + 8).map_err(|e| e.to_string())?;
    let media = atom(b"mdat", &[&data]);
    let matrix: Vec<u8> = [0x1_0000u32, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
    let header = atom(
        b"mvhd",
        &[
            &words(&[0, 0, 0, scale, duration, 0x1_0000, 0x0100_0000, 0, 0]),
            &matrix,
            &[0; 24],
            &words(&[2]),
        ],
    );
    let track = atom(
        b"tkhd",
        &[
            &words(&[3, 0, 0, 1, 0, duration, 0, 0, 0, 0]),
            &matrix,
            &words(&[first.width << 16, first.height << 16]),
        ],
    );
    let table = sample_table(first, &samples, offset)?;
    let info = atom(
        b"minf",
        &[
            &atom(b"vmhd", &[&words(&[1, 0, 0])]),
            &data_reference(),
            &table,
        ],
    );
    let handler = atom(b"hdlr", &[&words(&[0, 0]), b"vide", &[0; 12], b"video\0"]);
    let language = atom(b"mdhd", &[&words(&[0, 0, 0, scale, duration, 0x55C4_0000])]);
    let movie = atom(
        b"moov",
        &[
            &header,
            &atom(
                b"trak",
                &[&track, &atom(b"mdia", &[&language, &handler, &info])],
            ),
        ],
    );
    Ok([kind, media, movie].concat())
}

/// Which samples there are: their format, their times, their sizes, where they begin.
fn sample_table(first: &Picture, samples: &[Vec<u8>], offset: u32) -> Result<Vec<u8>, String> {
    let count = u32::try_from(samples.len()).map_err(|e| e.to_string())?;
    let (wide, high) = (
        u16::try_from(first.width).map_err(|e| e.to_string())?,
        u16::try_from(first.height).map_err(|e| e.to_string())?,
    );
    let mut entry = vec![0, 0, 0, 0, 0, 0, 0, 1];
    entry.extend([0; 16]);
    entry.extend(wide.to_be_bytes());
    entry.extend(high.to_be_bytes());
    entry.extend(words(&[0x48_0000, 0x48_0000, 0]));
    entry.extend([0, 1]);
    entry.extend([0; 32]);
    entry.extend([0, 24, 0xFF, 0xFF]);
    let mut sizes = words(&[0, 0, count]);
    sizes.extend(
        samples
            .iter()
            .flat_map(|sample| u32::try_from(sample.len()).unwrap_or(0).to_be_bytes()),
    );
    Ok(atom(
        b"stbl",
        &[
            &atom(b"stsd", &[&words(&[0, 1]), &atom(b"jpeg", &[&entry])]),
            &atom(b"stts", &[&words(&[0, 1, count, 1000])]),
            &atom(b"stsc", &[&words(&[0, 1, 1, count, 1])]),
            &atom(b"stsz", &[&sizes]),
            &atom(b"stco", &[&words(&[0, 1, offset])]),
        ],
    ))
}

/// The samples are in the same file.
fn data_reference() -> Vec<u8> {
    atom(
        b"dinf",
        &[&atom(
            b"dref",
            &[&words(&[0, 1]), &atom(b"url ", &[&words(&[1])])],
        )],
    )
}

fn atom(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length);
    out.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
    out.extend(name);
    parts.iter().for_each(|part| out.extend(*part));
    out
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}
