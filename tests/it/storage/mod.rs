//! storage.md, rule by rule: downloads, cache, credentials, guard, placing, uploads.

mod downloads;
