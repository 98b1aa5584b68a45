//! Digests of files on disk, and how they are written.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use aws_smithy_checksums::ChecksumAlgorithm;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// The digest of a whole file, on a blocking thread.
pub async fn digest_of(path: PathBuf, algorithm: ChecksumAlgorithm) -> io::Result<Vec<u8>> {
    let reading = move || {
        let mut sum = algorithm.into_impl();
        let mut file = File::open(path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(sum.finalize().to_vec()),
                count => sum.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    };
    tokio::task::spawn_blocking(reading)
        .await
        .map_err(io::Error::other)?
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
            text
        })
}
