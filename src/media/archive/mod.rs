//! Archives: outputs packed into one file, inputs unpacked with suspicion.

mod names;
mod pack;
mod tarball;
mod unpack;
mod writer;
mod zipfile;

pub(super) use self::pack::pack_until;
pub use self::pack::{ArchiveFormat, pack};
pub use self::unpack::{UnpackError, is_archive, unpack};
