//! The small commands of the command line that ask or print something and end. Each returns its
//! exit code.

pub mod check;
pub mod convert;
pub mod health;
pub mod mcp;
