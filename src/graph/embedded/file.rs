//! Reading here and there in a file, within limits.

use std::io::{self, Read, Seek, SeekFrom};

use super::{LONGEST, MOST_PARTS};

/// A file with a position and a length.
pub struct File<'r, R> {
    source: &'r mut R,
    len: u64,
    parts: usize,
}

impl<'r, R: Read + Seek> File<'r, R> {
    /// From the beginning.
    pub fn open(source: &'r mut R) -> io::Result<Self> {
        let len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        Ok(Self {
            source,
            len,
            parts: 0,
        })
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    pub fn position(&mut self) -> io::Result<u64> {
        self.source.stream_position()
    }

    pub fn go(&mut self, to: u64) -> io::Result<()> {
        self.source.seek(SeekFrom::Start(to)).map(|_| ())
    }

    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        let to = self.position()?.saturating_add(count);
        self.go(to)
    }

    /// The first bytes, without moving.
    pub fn peek(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let at = self.position()?;
        let mut bytes = Vec::new();
        self.source.by_ref().take(count).read_to_end(&mut bytes)?;
        self.go(at)?;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn u32_le(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// So many bytes; a longer text than any of ours is an error.
    pub fn bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let left = self.len.saturating_sub(self.position()?);
        if count > LONGEST || count > left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::new();
        self.source.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// One more chunk, box or element: an error when there are too many.
    pub fn part(&mut self) -> io::Result<()> {
        self.parts += 1;
        if self.parts > MOST_PARTS {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(())
        }
    }
}
