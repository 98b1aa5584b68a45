//! The files of the journal, each of which serves one prompt after the other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ENTRY, Record};

/// The folder of this process.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    pub(super) _lock: File,
    /// Files that serve no prompt at the moment. They are not kept open: somebody may empty the
    /// cache directory, or unmount it.
    pub(super) free: Vec<PathBuf>,
    /// How many files there are.
    pub(super) made: usize,
    /// The number of the last prompt.
    pub(super) last: u64,
}

/// A file that serves one prompt at a time.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Of the prompt that it serves.
    pub(super) number: u64,
    /// Where the next line goes.
    pub(super) end: u64,
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<R> {
    /// The number of the prompt; a line with another one is left from an earlier prompt.
    #[serde(default)]
    pub(super) entry: u64,
    #[serde(flatten)]
    pub(super) record: R,
}

impl Folder {
    pub(super) fn page(&mut self) -> io::Result<Page> {
        self.last += 1;
        let path = self.free.pop();
        let path = path.unwrap_or_else(|| {
            self.made += 1;
            self.dir.join(format!("{}.{ENTRY}", self.made))
        });
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        match file {
            Ok(file) => Ok(Page {
                file,
                path,
                number: self.last,
                end: 0,
            }),
            Err(error) => {
                self.free.push(path);
                Err(error)
            }
        }
    }
}

impl Page {
    /// Writes lines, all at once.
    pub(super) fn write<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            let entry = self.number;
            serde_json::to_writer(&mut lines, &Line { entry, record })?;
            lines.push(b'\n');
        }
        self.file.write_all_at(&lines, self.end)?;
        self.end += lines.len() as u64;
        Ok(())
    }
}
