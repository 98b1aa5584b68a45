//! Server-sent events, as far as this protocol uses them: the data of each.

/// Puts events together from pieces.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Events {
    /// The events that a piece completes.
    pub fn take(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        for byte in piece {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    complete.push(data);
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data
                    .extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_pieces() {
        let text = b": still here\n\nevent: message\r\ndata: {\"a\":1}\r\n\r\ndata: x\ndata:y\n\n";
        for size in [1, 2, 7, text.len()] {
            let mut events = Events::default();
            let found: Vec<Vec<u8>> = text
                .chunks(size)
                .flat_map(|piece| events.take(piece))
                .collect();
            assert_eq!(found, [b"{\"a\":1}".to_vec(), b"x\ny".to_vec()]);
        }
    }
}
