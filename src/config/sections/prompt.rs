//! How prompts are treated, and conversion by ffmpeg.

use std::path::PathBuf;
use std::time::Duration;

use super::{MIB, absolute};
use crate::config::Reader;
use crate::config::variables::prompts::{
    ALLOWED_INPUT_PATHS, CANCEL_ON_DISCONNECT, FFMPEG_PATH, FFMPEG_TIMEOUT_S, MAX_ARCHIVE_FILES,
    MAX_ARCHIVE_SIZE_MB, PREPEND_FILENAMES,
};

/// How prompts are treated.
#[derive(Debug, Clone)]
pub struct PromptConfig {
    /// `PREPEND_FILENAMES`.
    pub prepend_filenames: bool,
    /// `CANCEL_ON_DISCONNECT`.
    pub cancel_on_disconnect: bool,
    /// `ALLOWED_INPUT_PATHS`, separated by commas.
    pub allowed_input_paths: Vec<PathBuf>,
    /// `MAX_ARCHIVE_FILES`.
    pub max_archive_files: u64,
    /// `MAX_ARCHIVE_SIZE_MB` in bytes.
    pub max_archive_bytes: u64,
}

impl PromptConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            prepend_filenames: r.flag(&PREPEND_FILENAMES),
            cancel_on_disconnect: r.flag(&CANCEL_ON_DISCONNECT),
            allowed_input_paths: r
                .list(&ALLOWED_INPUT_PATHS)
                .into_iter()
                .map(|path| absolute(PathBuf::from(path)))
                .collect(),
            max_archive_files: r.number(&MAX_ARCHIVE_FILES),
            max_archive_bytes: r.number::<u64>(&MAX_ARCHIVE_SIZE_MB) * MIB,
        }
    }
}

/// Conversion by ffmpeg.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// `FFMPEG_PATH`.
    pub ffmpeg: PathBuf,
    /// `FFMPEG_TIMEOUT_S`.
    pub ffmpeg_timeout: Duration,
}

impl MediaConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            ffmpeg: r.path_or(&FFMPEG_PATH),
            ffmpeg_timeout: r.seconds(&FFMPEG_TIMEOUT_S),
        }
    }
}
