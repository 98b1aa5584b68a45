//! Just enough HTTP and websocket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;

use super::{PATIENCE, websocket};

pub(super) struct Http {
    reader: BufReader<TcpStream>,
}

impl Http {
    pub(super) fn to(port: u16) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    pub(super) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::with_capacity(1 << 18, stream),
        }
    }

    /// Status, and number of bytes in the body, which is read and thrown away.
    pub(super) fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, u64) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.reader.get_mut().write_all(head.as_bytes()).unwrap();
        let status = self.line().split(' ').nth(1).unwrap().parse().unwrap();
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        if !chunked {
            self.discard(length);
            return (status, length);
        }
        let mut total = 0;
        loop {
            let size = u64::from_str_radix(&self.line(), 16).unwrap();
            self.discard(size + 2);
            total += size;
            if size == 0 {
                return (status, total);
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(
            self.reader.read_line(&mut line).unwrap() > 0,
            "the connection was closed"
        );
        line.trim_end().to_owned()
    }

    fn discard(&mut self, mut left: u64) {
        while left > 0 {
            let there = self
                .reader
                .fill_buf()
                .unwrap()
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            assert!(there > 0, "the body was cut off");
            self.reader.consume(there);
            left -= there as u64;
        }
    }
}

/// The one websocket of the ideal client: tells each prompt's thread when its prompt has ended.
#[derive(Clone)]
pub(super) struct Watcher {
    pub(super) waiting: Arc<Mutex<HashMap<String, Sender<()>>>>,
}

impl Watcher {
    pub(super) fn connect(port: u16) -> Self {
        let mut http = Http::to(port);
        let request = "GET /ws?clientId=load HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                       upgrade: websocket\r\nconnection: upgrade\r\n\
                       sec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        http.reader.get_mut().write_all(request.as_bytes()).unwrap();
        assert!(http.line().contains("101"), "no websocket");
        while !http.line().is_empty() {}
        http.reader.get_mut().set_read_timeout(None).unwrap();
        let watcher = Self {
            waiting: Arc::default(),
        };
        let waiting = Arc::clone(&watcher.waiting);
        // It ends when the simulator does.
        thread::spawn(move || {
            while let Some(message) = websocket::frame(&mut http.reader) {
                if !websocket::is_end(&message) {
                    continue;
                }
                let mut waiting = waiting.lock().unwrap();
                let ended = message.split('"').find_map(|word| waiting.remove(word));
                if let Some(ended) = ended {
                    let _ = ended.send(());
                }
            }
        });
        watcher
    }
}
