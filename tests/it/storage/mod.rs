//! storage.md, rule by rule: downloads, cache, credentials, guard, placing, uploads.

mod cache;
mod credentials;
mod downloads;
mod git;
mod guard;
mod killed;
mod placing;
mod uploads;
