//! What a conversion will need of memory, known from the header alone (attack.md, A13).

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use ::image::codecs::gif::GifDecoder;
use ::image::codecs::png::PngDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::{ImageDecoder, ImageFormat};
use flate2::read::ZlibDecoder;

use super::decode::reader;
use crate::media::options::Target;

/// One picture may need so much; more is delivered as it is.
pub(in crate::media) const MOST: u64 = 1 << 30;
/// What a packed chunk of a PNG (profile, text) may unpack to.
const CHUNK: u64 = 4 << 20;
/// Buffers that do not depend on the size.
const BASE: u64 = 2 << 20;

/// What is known of a picture before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) struct Header {
    pub(in crate::media) width: u32,
    pub(in crate::media) height: u32,
    /// Bytes of the decoded picture, as its decoder gives it.
    decoded: u64,
    /// There may be several frames.
    pub(in crate::media) animated: bool,
    /// The file itself, which some decoders hold.
    file: u64,
}

/// Reads the header, and looks into packed chunks.
///
/// # Errors
/// A sentence fragment when the picture cannot be read, or a chunk of it unpacks to too much.
pub(in crate::media) fn header(path: &Path) -> Result<Header, String> {
    let broken = |e: ::image::ImageError| format!("the image could not be decoded ({e})");
    let unread = |e: std::io::Error| format!("the file could not be read ({e})");
    let file = path.metadata().map_err(unread)?.len();
    let found = reader(path)?;
    let format = found.format();
    if format == Some(ImageFormat::Png) {
        check_chunks(path)?;
    }
    let open = || File::open(path).map(BufReader::new).map_err(unread);
    let animated = match format {
        Some(ImageFormat::Gif) => GifDecoder::new(open()?).is_ok(),
        Some(ImageFormat::WebP) => WebPDecoder::new(open()?).map_err(broken)?.has_animation(),
        Some(ImageFormat::Png) => PngDecoder::new(open()?)
            .and_then(|decoder| decoder.is_apng())
            .map_err(broken)?,
        _ => false,
    };
    let decoder = found.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    Ok(Header {
        width,
        height,
        decoded: decoder.total_bytes(),
        animated,
        file,
    })
}

impl Header {
    /// Bytes that the conversion into `target` holds at its peak, the codec's own copies included.
    pub(in crate::media) fn needs(&self, target: &Target) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        // Decoded, turned or brought to sRGB (a copy), and as 8-bit RGBA.
        let read = self.decoded.saturating_mul(2) + pixels * 4;
        let written = match target {
            // Flattened, and the coefficients of a progressive picture without subsampling.
            Target::Jpeg(_) => pixels * (3 + 6),
            // Planes or ARGB; lossless holds palettes, hashes and histograms beside.
            Target::Webp(options) if options.lossless || options.near_lossless => pixels * 20,
            Target::Webp(_) => pixels * 8,
            Target::Png(_) => 0,
            // Fitted, and the frames on their way.
            Target::Video(_) => pixels * (4 + 4 * 4),
            Target::Audio(_) => 0,
        };
        // Canvases of decoder and encoder for what changes from frame to frame.
        let frames = if self.animated {
            pixels * 4 * 6 + self.file * 3
        } else {
            0
        };
        BASE + read + written + frames
    }

    /// The same, or why it is too much.
    ///
    /// # Errors
    /// A sentence fragment when more than [`MOST`] would be needed.
    pub(in crate::media) fn affordable(&self, target: &Target) -> Result<u64, String> {
        let needed = self.needs(target);
        if needed > MOST {
            return Err(format!(
                "its {}x{} pixels would need {} MiB of memory, and {} are allowed for one picture",
                self.width,
                self.height,
                needed >> 20,
                MOST >> 20
            ));
        }
        Ok(needed)
    }
}

/// A profile or text of some kilobytes may unpack to gigabytes.
fn check_chunks(path: &Path) -> Result<(), String> {
    let unread = |e: std::io::Error| format!("the file could not be read ({e})");
    let mut file = BufReader::new(File::open(path).map_err(unread)?);
    file.seek(SeekFrom::Start(8)).map_err(unread)?;
    let mut head = [0; 8];
    while file.read_exact(&mut head).is_ok() {
        let length = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let kind = &head[4..8];
        let begin = file.stream_position().map_err(unread)?;
        if matches!(kind, b"iCCP" | b"zTXt" | b"iTXt") && length < CHUNK {
            let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
            if file.read_exact(&mut chunk).is_err() {
                return Ok(());
            }
            if let Some(packed) = packed_part(kind, &chunk)
                && std::io::copy(
                    &mut ZlibDecoder::new(packed).take(CHUNK + 1),
                    &mut std::io::sink(),
                )
                .unwrap_or(0)
                    > CHUNK
            {
                return Err(format!(
                    "its {} chunk unpacks to more than {} MiB",
                    String::from_utf8_lossy(kind),
                    CHUNK >> 20
                ));
            }
        } else if matches!(kind, b"iCCP" | b"zTXt") {
            return Err(format!(
                "its {} chunk is larger than {} MiB",
                String::from_utf8_lossy(kind),
                CHUNK >> 20
            ));
        }
        if kind == b"IEND" {
            return Ok(());
        }
        // Behind the content stands a checksum.
        file.seek(SeekFrom::Start(begin + length + 4))
            .map_err(unread)?;
    }
    Ok(())
}

/// Where the packed bytes of a chunk begin: behind a keyword and the method, in `iTXt` behind
/// language and translation too.
fn packed_part<'a>(kind: &[u8], chunk: &'a [u8]) -> Option<&'a [u8]> {
    let keyword = chunk.iter().position(|byte| *byte == 0)?;
    let rest = chunk.get(keyword + 1..)?;
    if kind != b"iTXt" {
        return rest.get(1..);
    }
    let (flag, rest) = (rest.first()?, rest.get(2..)?);
    if *flag == 0 {
        return None;
    }
    let language = rest.iter().position(|byte| *byte == 0)?;
    let rest = rest.get(language + 1..)?;
    let translated = rest.iter().position(|byte| *byte == 0)?;
    rest.get(translated + 1..)
}
