//! What the tests share. One file per helper, declared here.

pub mod chaos_proxy;
pub mod origin;
pub mod rabbitmq;
pub mod storage;
