//! What S3, Azure and Hugging Face share: parts of files on their way out, and failures in words.

mod failure;
mod part;

pub use failure::{classify, content_range, disposition_name, from_reqwest, hex, refusal, retry_after, words};
pub use part::{FilePart, Meter, READ, in_parallel, size_of, supervised};
