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
