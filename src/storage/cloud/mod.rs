//! What backends share: digests of files, parts of files on their way out, and failures in words.

mod digest;
mod failure;
mod part;

pub use digest::{digest_of, hex};
pub use failure::{
    classify, content_range, disposition_name, from_reqwest, refusal, retry_after, words,
};
pub use part::{FilePart, Meter, READ, in_parallel, size_of, supervised};
