//! What the tests share. One file per helper, declared here.

pub mod azurite;
pub mod chaos_proxy;
pub mod collector;
pub mod graphs;
pub mod hub;
pub mod memory;
pub mod moto;
pub mod origin;
pub mod peer_process;
pub mod product;
pub mod rabbitmq;
pub mod receiver;
pub mod sse;
pub mod storage;
pub mod tmpfs;
