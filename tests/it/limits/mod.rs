//! docs/reference/limits.md: what one client can make us use is bounded, and every row has a test
//! (A04, A19, A50 and their kind).

mod attacks;
mod connections;
mod history;
mod records;
mod rows;
