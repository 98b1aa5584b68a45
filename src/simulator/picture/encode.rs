//! Picture files.

use std::io::Cursor;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;

use super::Picture;

/// A PNG with text chunks, encoded for speed.
pub fn png(picture: &Picture, texts: &[(String, String)]) -> Result<Vec<u8>, String> {
    write_png(std::slice::from_ref(picture), texts, None)
}

/// A PNG that moves. `delay_ms` is the time of a frame.
pub fn animated_png(
    frames: &[Picture],
    texts: &[(String, String)],
    delay_ms: u16,
) -> Result<Vec<u8>, String> {
    write_png(frames, texts, Some(delay_ms))
}

fn write_png(
    frames: &[Picture],
    texts: &[(String, String)],
    delay_ms: Option<u16>,
) -> Result<Vec<u8>, String> {
    let first = frames.first().ok_or("a picture without frames")?;
    let mut out = Vec::with_capacity(first.rgb.len() / 8 + 1024);
    let mut encoder = png::Encoder::new(&mut out, first.width, first.height);
    let transparent = first.alpha.is_some();
    encoder.set_color(if transparent {
        png::ColorType::Rgba
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fastest);
    if let Some(delay) = delay_ms {
        encoder
            .set_animated(u32::try_from(frames.len()).unwrap_or(1), 0)
            .map_err(|e| e.to_string())?;
        encoder
            .set_frame_delay(delay, 1000)
            .map_err(|e| e.to_string())?;
    }
    for (keyword, text) in texts {
        encoder
            .add_text_chunk(keyword.clone(), text.clone())
            .map_err(|e| e.to_string())?;
    }
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    for frame in frames {
        match &frame.alpha {
            Some(_) if transparent => writer.write_image_data(&rgba(frame)),
            _ => writer.write_image_data(&frame.rgb),
        }
        .map_err(|e| e.to_string())?;
    }
    writer.finish().map_err(|e| e.to_string())?;
    Ok(out)
}

fn rgba(picture: &Picture) -> Vec<u8> {
    let opaque = [255];
    let alpha = picture.alpha.as_deref().map_or(&opaque[..], Vec::as_slice);
    picture
        .rgb
        .chunks_exact(3)
        .zip(alpha.iter().chain(std::iter::repeat(&255)))
        .flat_map(|(p, a)| [p[0], p[1], p[2], *a])
        .collect()
}

/// A JPEG.
pub fn jpeg(picture: &Picture, quality: u8) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut out), quality)
        .encode(
            &picture.rgb,
            picture.width,
            picture.height,
            ExtendedColorType::Rgb8,
        )
        .map_err(|e| e.to_string())?;
    Ok(out)
}

/// A lossless WebP that moves; the container is written here, the frames by the encoder. `delay_ms`
/// is the time of a frame.
pub fn animated_webp(frames: &[Picture], delay_ms: u32) -> Result<Vec<u8>, String> {
    let first = frames.first().ok_or("an animation without frames")?;
    let (wide, high) = (first.width.wrapping_sub(1), first.height.wrapping_sub(1));
    let mut body = b"WEBP".to_vec();
    // Extended header: only the animation flag, then the canvas.
    let mut header = vec![0b10, 0, 0, 0];
    header.extend(&wide.to_le_bytes()[..3]);
    header.extend(&high.to_le_bytes()[..3]);
    chunk(&mut body, *b"VP8X", &header);
    // White background, endless.
    chunk(&mut body, *b"ANIM", &[255, 255, 255, 255, 0, 0]);
    for frame in frames {
        let frame = frame.scaled(first.width, first.height);
        let mut still = Vec::new();
        WebPEncoder::new_lossless(&mut still)
            .encode(
                &frame.rgb,
                frame.width,
                frame.height,
                ExtendedColorType::Rgb8,
            )
            .map_err(|e| e.to_string())?;
        let mut piece = vec![0; 6];
        piece.extend(&wide.to_le_bytes()[..3]);
        piece.extend(&high.to_le_bytes()[..3]);
        piece.extend(&delay_ms.to_le_bytes()[..3]);
        piece.push(0);
        // Behind the twelve bytes of RIFF header stands the one chunk of a simple lossless file.
        piece.extend(still.get(12..).ok_or("an empty frame")?);
        chunk(&mut body, *b"ANMF", &piece);
    }
    let mut out = b"RIFF".to_vec();
    out.extend(
        u32::try_from(body.len())
            .map_err(|e| e.to_string())?
            .to_le_bytes(),
    );
    out.extend(body);
    Ok(out)
}

fn chunk(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    out.extend(name);
    out.extend(u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
    out.extend(data);
    if data.len() % 2 == 1 {
        out.push(0);
    }
}
