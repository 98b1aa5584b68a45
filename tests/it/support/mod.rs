//! What the tests share. One file per helper, declared here.

pub mod receiver;
