//! Places for transfers, their pace, and what they leave of the disk. `storage` keeps to these;
//! tests have smaller ones ([`crate::storage::Pace`]).

use std::time::Duration;

/// What a speed is measured over.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Bytes per second below which a transfer goes on beside the places.
pub const SLOW: u64 = 10_000;
/// Bytes per second below which a transfer stands still, and ends.
pub const STILL: u64 = 1_000;
/// The longest wait for a place. It is to be 5 s at most until a transfer has begun.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// Transfers beside the places.
pub const BESIDE: usize = 100;
/// Bytes left free on the disk of the cache, for everybody else on it.
pub const DISK_RESERVE: u64 = 16 * 1024 * 1024;

/// The places that one host may hold, of so many.
pub const fn share_of_host(places: usize) -> usize {
    if places < 2 { 1 } else { places / 2 }
}
