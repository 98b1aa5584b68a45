//! Compressed request bodies, decoded piece by piece: a kilobyte may become a megabyte.

use std::io::{self, Write};

use axum::http::{HeaderMap, header};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::error::{Code, Failure};
use crate::limits::text;

/// How much compressed text is decoded at a time, so that no call takes long: at most a megabyte
/// comes of it.
const PIECE: usize = 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
    /// zlib; some clients send the bare form.
    Deflate,
}

/// The encoding that a request names.
///
/// # Errors
/// 415 for one that is not known.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let named: Vec<String> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            let parts: Vec<String> = value
                .split(',')
                .map(|part| part.trim().to_owned())
                .collect();
            parts
        })
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    match named.as_slice() {
        [] => Ok(Encoding::Identity),
        [only] if only == "gzip" || only == "x-gzip" => Ok(Encoding::Gzip),
        [only] if only == "deflate" => Ok(Encoding::Deflate),
        others => {
            let others = others.join(", ");
            let message = format!(
                "the Content-Encoding \"{}\" is not known: send the body as it is, or as gzip or \
                 deflate",
                text::shorten(&others, 60)
            );
            Err(Failure::new(Code::UnsupportedMediaType, message))
        }
    }
}

/// What takes a body's text. An error of its own ends the decoding.
pub trait Sink {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When no more is taken.
    fn take(&mut self, piece: &[u8]) -> Result<(), Failure>;
}

/// Writes to a sink, and keeps its error, which the decoder would bury.
struct Through<S> {
    sink: S,
    refused: Option<Failure>,
}

impl<S: Sink> Write for Through<S> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.sink.take(piece) {
            Ok(()) => Ok(piece.len()),
            Err(failure) => {
                self.refused = Some(failure);
                Err(io::Error::other("refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes a body into a sink.
pub struct Decoder<S: Sink>(State<S>);

enum State<S: Sink> {
    Identity(S),
    /// The first bytes of `deflate` tell its form.
    Undecided(S, Vec<u8>),
    Gzip(MultiGzDecoder<Through<S>>),
    Zlib(ZlibDecoder<Through<S>>),
    Bare(DeflateDecoder<Through<S>>),
    /// For a moment, between two others.
    Gone,
}

impl<S: Sink> Decoder<S> {
    /// Has decoded nothing yet.
    pub fn new(encoding: Encoding, sink: S) -> Self {
        Self(match encoding {
            Encoding::Identity => State::Identity(sink),
            Encoding::Gzip => State::Gzip(MultiGzDecoder::new(through(sink))),
            Encoding::Deflate => State::Undecided(sink, Vec::new()),
        })
    }

    /// A piece of the body in parts, none of which takes long.
    pub fn parts<'a>(&self, piece: &'a [u8]) -> std::slice::Chunks<'a, u8> {
        match self.0 {
            State::Identity(_) => piece.chunks(piece.len().max(1)),
            _ => piece.chunks(PIECE),
        }
    }

    /// What has taken the text so far.
    pub fn sink(&self) -> Option<&S> {
        match &self.0 {
            State::Identity(sink) | State::Undecided(sink, _) => Some(sink),
            State::Gzip(decoder) => Some(&decoder.get_ref().sink),
            State::Zlib(decoder) => Some(&decoder.get_ref().sink),
            State::Bare(decoder) => Some(&decoder.get_ref().sink),
            State::Gone => None,
        }
    }

    /// The next part of the body.
    ///
    /// # Errors
    /// The sink's, or a 400 when the body cannot be decoded.
    pub fn feed(&mut self, part: &[u8]) -> Result<(), Failure> {
        if let State::Identity(sink) = &mut self.0 {
            return sink.take(part);
        }
        if let State::Undecided(_, first) = &mut self.0 {
            first.extend_from_slice(part);
            if first.len() < 2 {
                return Ok(());
            }
            let State::Undecided(sink, first) = std::mem::replace(&mut self.0, State::Gone) else {
                return Ok(());
            };
            let is_zlib =
                first[0] & 0x0f == 8 && u16::from_be_bytes([first[0], first[1]]).is_multiple_of(31);
            self.0 = if is_zlib {
                State::Zlib(ZlibDecoder::new(through(sink)))
            } else {
                State::Bare(DeflateDecoder::new(through(sink)))
            };
            return self.write(&first);
        }
        self.write(part)
    }

    fn write(&mut self, part: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.0 {
            State::Gzip(decoder) => decoder.write_all(part).map_err(|_| decoder.get_mut()),
            State::Zlib(decoder) => decoder.write_all(part).map_err(|_| decoder.get_mut()),
            State::Bare(decoder) => decoder.write_all(part).map_err(|_| decoder.get_mut()),
            State::Identity(_) | State::Undecided(..) | State::Gone => Ok(()),
        };
        written.map_err(|through| through.refused.take().unwrap_or_else(broken))
    }

    /// The sink, when the body is complete.
    ///
    /// # Errors
    /// A 400 when it is not, or the sink's.
    pub fn finish(self) -> Result<S, Failure> {
        // The rest that a decoder still holds may be refused, too; that is told as a broken body.
        let finished = match self.0 {
            State::Identity(sink) => return Ok(sink),
            State::Undecided(sink, first) if first.is_empty() => return Ok(sink),
            State::Undecided(..) | State::Gone => return Err(broken()),
            State::Gzip(decoder) => decoder.finish(),
            State::Zlib(decoder) => decoder.finish(),
            State::Bare(decoder) => decoder.finish(),
        };
        finished.map(|through| through.sink).map_err(|_| broken())
    }
}

fn through<S>(sink: S) -> Through<S> {
    Through {
        sink,
        refused: None,
    }
}

fn broken() -> Failure {
    Failure::invalid(
        "body",
        "the body cannot be decoded: it is not what its Content-Encoding says, or it is cut off",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    struct Limited(Vec<u8>, usize);

    impl Sink for Limited {
        fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
            if self.0.len() + piece.len() > self.1 {
                return Err(Failure::new(Code::PayloadTooLarge, "too large"));
            }
            self.0.extend_from_slice(piece);
            Ok(())
        }
    }

    fn decoded(
        encoding: Encoding,
        body: &[u8],
        piece: usize,
        limit: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut decoder = Decoder::new(encoding, Limited(Vec::new(), limit));
        for piece in body.chunks(piece) {
            for part in decoder.parts(piece) {
                decoder.feed(part)?;
            }
        }
        decoder.finish().map(|sink| sink.0)
    }

    /// F12
    #[test]
    fn bodies_are_decoded_in_pieces_of_any_size() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 1_000).to_string().into_bytes())
            .collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let gzip = encoder.finish().unwrap();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let zlib = encoder.finish().unwrap();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let bare = encoder.finish().unwrap();
        for (encoding, body) in [
            (Encoding::Identity, &text),
            (Encoding::Gzip, &gzip),
            (Encoding::Deflate, &zlib),
            (Encoding::Deflate, &bare),
        ] {
            for piece in [1, 7, 100_000_000] {
                assert!(
                    decoded(encoding, body, piece, usize::MAX).unwrap() == text,
                    "{encoding:?}"
                );
            }
            let failure = decoded(encoding, body, 1_000, text.len() / 2).unwrap_err();
            assert_eq!(failure.code, Code::PayloadTooLarge, "{encoding:?}");
            if encoding != Encoding::Identity {
                let cut = decoded(encoding, &body[..body.len() - 9], 1_000, usize::MAX);
                assert_eq!(cut.unwrap_err().code, Code::InvalidRequest, "{encoding:?}");
                let other = decoded(encoding, b"{\"prompt\": {}}", 1_000, usize::MAX);
                assert_eq!(
                    other.unwrap_err().code,
                    Code::InvalidRequest,
                    "{encoding:?}"
                );
            }
        }
    }

    #[test]
    fn unknown_encodings_are_named() {
        let named = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
            encoding(&headers)
        };
        assert_eq!(encoding(&HeaderMap::new()).unwrap(), Encoding::Identity);
        assert_eq!(named("identity").unwrap(), Encoding::Identity);
        assert_eq!(named("GZip").unwrap(), Encoding::Gzip);
        assert_eq!(named("deflate").unwrap(), Encoding::Deflate);
        for name in ["br", "zstd", "gzip, deflate", "nonsense"] {
            let failure = named(name).unwrap_err();
            assert_eq!(failure.code, Code::UnsupportedMediaType);
            assert!(failure.message.contains(name), "{failure}");
        }
    }
}
