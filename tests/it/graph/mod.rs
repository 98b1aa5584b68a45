//! The editor's workflow files: every case of the corpus, and what no editor writes.

pub mod corpus;
pub mod embedded;
mod fuzz;
mod golden;
mod limits;
mod places;
