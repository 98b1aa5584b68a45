//! Files into other files: image codecs, ffmpeg, archives, recognising types. Knows nothing of
//! prompts.
//!
//! - `options`: what a client may ask for, checked before anything runs
//! - `converter`: which file gets which treatment, how many at once
//! - `image`: the codecs, pure functions for blocking threads
//! - `ffmpeg`: video and sound by the command
//! - `archive`: packing outputs, unpacking inputs
//! - `probe`: how large and how long something is
//! - `recognise`: what a file is by its first bytes
//! - `thumbnail`: small pictures of pictures and videos
//! - `stop`: ends work on a blocking thread that nobody waits for

mod archive;
mod converter;
mod ffmpeg;
mod image;
mod options;
mod pending;
mod probe;
mod recognise;
mod stop;
mod thumbnail;

pub use self::archive::{ArchiveFormat, UnpackError, is_archive, pack, unpack};
pub use self::converter::{Converted, Media, SourceFile};
pub use self::options::Conversion;
use self::pending::PendingFile;
pub use self::probe::dimensions;
pub use self::recognise::{content_type, extension_for, head, head_of};
pub use self::thumbnail::{Thumbnail, ThumbnailSpec, Transparent};
