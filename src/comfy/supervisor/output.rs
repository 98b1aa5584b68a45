//! A child's output: always read, forwarded to our log line by line, the last lines kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::telemetry::recent::recent;

/// Lines kept for error reports (process.md, step 5).
const KEPT_LINES: usize = 200;
/// A longer line is cut into pieces of this many bytes, so that a program that prints no line ends
/// costs no memory.
const LONGEST_LINE: usize = 8 * 1024;

/// The last lines that a child printed, on stdout and stderr together.
#[derive(Debug, Clone, Default)]
pub struct OutputTail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl OutputTail {
    /// Adds a line, forgetting the oldest when there are too many.
    pub fn push(&self, line: &str) {
        let mut lines = self.lines.lock();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }
}

/// What ComfyUI printed lately, for whoever wants the lines of a while.
#[derive(Debug, Clone, Default)]
pub struct OutputLog {
    kept: Arc<Mutex<Kept>>,
    executed: Arc<Mutex<Executed>>,
    /// Of which of several ComfyUI it is.
    label: Option<usize>,
}

/// The prompt that lines are about.
#[derive(Debug, Default)]
struct Executed {
    id: Option<Arc<str>>,
    ended: Option<Instant>,
}

/// What ComfyUI prints at the end of a prompt arrives after the end has been noticed.
const LAST_LINES: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct Kept {
    /// Lines so far.
    count: u64,
    bytes: usize,
    lines: VecDeque<String>,
}

/// Bytes and lines that are kept.
const LOG_BYTES: usize = 2 << 20;
const LOG_LINES: usize = 5000;

impl OutputLog {
    /// Of one of several ComfyUI.
    pub fn of(label: Option<usize>) -> Self {
        Self {
            label,
            ..Self::default()
        }
    }

    /// Adds a line, forgetting the oldest when there are too many.
    pub fn push(&self, line: &str) {
        recent().comfyui(line, self.prompt(), self.label);
        let mut kept = self.kept.lock();
        kept.count += 1;
        kept.bytes += line.len();
        kept.lines.push_back(line.to_owned());
        while kept.lines.len() > LOG_LINES || kept.bytes > LOG_BYTES {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= oldest.len();
        }
    }

    /// What ComfyUI prints is about this prompt, which it executes, while the value lives and a
    /// little longer.
    pub fn about(&self, id: &Arc<str>) -> AboutPrompt {
        *self.executed() = Executed {
            id: Some(id.clone()),
            ended: None,
        };
        AboutPrompt {
            log: self.clone(),
            id: id.clone(),
        }
    }

    fn prompt(&self) -> Option<Arc<str>> {
        let executed = self.executed();
        let over = |at: Instant| at.elapsed() > LAST_LINES;
        executed
            .id
            .clone()
            .filter(|_| !executed.ended.is_some_and(over))
    }

    fn executed(&self) -> MutexGuard<'_, Executed> {
        self.executed.lock()
    }

    /// The present place, for [`OutputLog::since`].
    pub fn place(&self) -> u64 {
        self.kept.lock().count
    }

    /// The last lines since a place, at most so many bytes, and whether there were more.
    pub fn since(&self, place: u64, most: usize) -> (String, bool) {
        let kept = self.kept.lock();
        let wanted = usize::try_from(kept.count.saturating_sub(place)).unwrap_or(usize::MAX);
        let mut chosen = Vec::new();
        let mut bytes = 0;
        for line in kept.lines.iter().rev().take(wanted) {
            bytes += line.len() + 1;
            if bytes > most {
                break;
            }
            chosen.push(line.as_str());
        }
        let truncated = chosen.len() < wanted;
        chosen.reverse();
        let mut text = chosen.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        (text, truncated)
    }
}

/// See [`OutputLog::about`].
#[derive(Debug)]
pub struct AboutPrompt {
    log: OutputLog,
    id: Arc<str>,
}

impl Drop for AboutPrompt {
    fn drop(&mut self) {
        let mut executed = self.log.executed();
        if executed.id.as_deref() == Some(&*self.id) {
            executed.ended.get_or_insert_with(Instant::now);
        }
    }
}

/// Reads to the end and hands on every line that is not empty. `\r` ends a line too: progress bars
/// repaint with it. Bytes that are not UTF-8 are replaced.
pub async fn forward(mut source: impl AsyncRead + Unpin, mut on_line: impl FnMut(&str)) {
    let mut lines = Lines::default();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match source.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => lines.feed(chunk.get(..read).unwrap_or_default(), &mut on_line),
        }
    }
    lines.end(&mut on_line);
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        while !bytes.is_empty() {
            let room = LONGEST_LINE - self.unfinished.len();
            let (window, _) = bytes.split_at(room.min(bytes.len()));
            if let Some(end) = window.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let (line, rest) = bytes.split_at(end);
                self.unfinished.extend_from_slice(line);
                self.end(on_line);
                bytes = rest.get(1..).unwrap_or_default();
            } else {
                self.unfinished.extend_from_slice(window);
                bytes = bytes.get(window.len()..).unwrap_or_default();
                if self.unfinished.len() == LONGEST_LINE {
                    self.cut(on_line);
                }
            }
        }
    }

    /// Hands on a line that is too long, keeping the begun character at its end, if any, for the
    /// next piece.
    fn cut(&mut self, on_line: &mut impl FnMut(&str)) {
        let whole = match std::str::from_utf8(&self.unfinished) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.unfinished.len(),
        };
        let rest = self.unfinished.split_off(whole);
        self.end(on_line);
        self.unfinished = rest;
    }

    fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.unfinished);
        let line = text.trim_end();
        if !line.is_empty() {
            on_line(line);
        }
        self.unfinished.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut keep = |line: &str| seen.push(line.to_owned());
        for piece in pieces {
            lines.feed(piece, &mut keep);
        }
        lines.end(&mut keep);
        seen
    }

    #[test]
    fn lines_end_with_newline_or_carriage_return_wherever_the_pieces_end() {
        assert_eq!(
            lines_of(&[b"one\r\ntw", b"o\n\n 10%\r 20%\r", b"last"]),
            ["one", "two", " 10%", " 20%", "last"]
        );
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters_and_loses_nothing() {
        let text = "ä".repeat(LONGEST_LINE * 2);
        let odd = format!("x{text}");
        let pieces = lines_of(&[odd.as_bytes()]);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= LONGEST_LINE));
        assert_eq!(pieces.concat(), odd);
    }

    #[test]
    fn the_log_gives_the_lines_of_a_while() {
        let log = OutputLog::default();
        log.push("before");
        let place = log.place();
        assert_eq!(log.since(place, 100), (String::new(), false));
        log.push("one");
        log.push("two");
        assert_eq!(log.since(place, 100), ("one\ntwo\n".to_owned(), false));
        assert_eq!(log.since(place, 5), ("two\n".to_owned(), true));
        (0..10_000).for_each(|n| log.push(&n.to_string()));
        assert!(log.since(place, usize::MAX).1);
    }

    #[test]
    fn the_tail_keeps_the_last_two_hundred_lines() {
        let tail = OutputTail::default();
        (0..500).for_each(|n| tail.push(&n.to_string()));
        let lines = tail.lines();
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[199].as_str()),
            (200, "300", "499")
        );
    }
}
