//! What the tests share. One file per helper, declared here.

pub mod origin;
pub mod receiver;
pub mod storage;
