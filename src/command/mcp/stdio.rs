//! Lines in and out. Both block, so reading has a thread of its own, which ends with the process.

use std::io::{BufRead, Write};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

/// The lines of stdin; the channel ends with it.
pub fn lines() -> mpsc::Receiver<Vec<u8>> {
    let (to, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if to.blocking_send(line).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    lines
}

/// Messages to stdout, one a line.
#[derive(Debug, Default)]
pub struct Output(Mutex<()>);

impl Output {
    /// Writes one. Nobody who reads no more is told anything.
    pub fn write(&self, message: &Value) {
        let line = format!("{message}\n");
        let _turn = self.0.lock();
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}
