//! The editor's workflow files: every case of the corpus, and what no editor writes.

pub mod corpus;
mod embedded;
mod fuzz;
mod golden;
mod limits;
