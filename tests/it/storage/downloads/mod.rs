//! How a download runs: whole or not at all, however the origin behaves.

mod checksums;
mod failures;
mod once;
mod ranges;
