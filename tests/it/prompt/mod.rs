//! The way of a prompt through the whole product (prompt.md, http-api.md).

mod cancel;
mod listing;
mod media;
mod models;
mod outputs;
mod refusals;
