//! Ports that nobody else uses.

use std::sync::atomic::{AtomicU16, Ordering};

/// A port that was free a moment ago, outside the range from which the system hands out ports by
/// itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 10_000).unwrap();
    for _ in 0..5_000 {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// The first of so many free ports in a row.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 7_000).unwrap();
    for _ in 0..2_000 {
        let port = 12_000 + (offset + NEXT.fetch_add(count, Ordering::Relaxed)) % 7_500;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (port..port + count).all(free) {
            return port;
        }
    }
    panic!("no {count} free ports in a row between 12000 and 20000");
}
