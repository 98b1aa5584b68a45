//! Ids of traces and spans: random, never all zero.

use rand::Rng;

/// A new trace id.
pub fn trace_id() -> [u8; 16] {
    loop {
        let id: u128 = rand::rng().random();
        if id != 0 {
            return id.to_be_bytes();
        }
    }
}

/// A new span id.
pub fn span_id() -> [u8; 8] {
    loop {
        let id: u64 = rand::rng().random();
        if id != 0 {
            return id.to_be_bytes();
        }
    }
}
