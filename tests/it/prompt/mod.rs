//! The way of a prompt through the whole product (prompt.md, http-api.md).

mod answers;
mod cancel;
mod listing;
mod media;
mod missing_files;
mod models;
mod other_runs;
mod outputs;
mod refusals;
mod whose_files;
