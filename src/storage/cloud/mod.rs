//! What backends share: digests of files, parts of files on their way out, and failures in words.

mod digest;
mod failure;
mod part;

pub use digest::digest_of;
pub use failure::{classify, from_reqwest, refusal, words};
pub use part::{FilePart, Meter, READ, in_parallel, size_of, supervised};
