//! Everything that a process prints.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::PATIENCE;

/// Everything the process and its child have printed.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    pub(super) fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.lines.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = stream.next_segment().await {
                lines
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The whole text so far.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// How many lines hold a text.
    pub fn count(&self, part: &str) -> usize {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    /// Waits for a line that holds a text.
    pub async fn line(&self, part: &str) -> String {
        self.nth_line(part, 0).await
    }

    /// Waits for one more line with a text than there were.
    pub async fn nth_line(&self, part: &str, before: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self
                .lines
                .lock()
                .unwrap()
                .iter()
                .filter(|line| line.contains(part))
                .nth(before)
            {
                return line.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no line with {part:?} in:\n{}",
                self.text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
