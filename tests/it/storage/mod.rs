//! storage.md, rule by rule: downloads, cache, credentials, guard, placing, uploads.

mod cache;
mod credentials;
mod crowds;
mod downloads;
mod eviction;
mod git;
mod guard;
mod instances;
mod killed;
mod not_files;
mod placing;
mod revalidation;
mod uploads;
