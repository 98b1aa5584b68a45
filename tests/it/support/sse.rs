//! A reader of server-sent events.

use std::time::Duration;

use serde_json::Value;

use super::product::PATIENCE;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `message`, `complete` or `error`.
    pub name: String,
    /// The `id`, a number here.
    pub id: u64,
    /// The `data`, JSON here.
    pub data: Value,
}

impl Event {
    /// The type of ComfyUI's message, or the event's name.
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or(&self.name)
    }
}

/// An open stream.
pub struct Sse {
    /// The answer, for its headers.
    pub response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Sse {
    /// Takes over a response, which must be a stream.
    pub fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            buffer: Vec::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .expect("no event in time")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).unwrap()) {
                    return Some(event);
                }
                continue;
            }
            self.buffer
                .extend_from_slice(&self.response.chunk().await.unwrap()?);
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Reads until an event of a type.
    pub async fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended without {kind}"));
            if event.kind() == kind {
                return event;
            }
        }
    }

    /// Reads nothing for a while, as a slow client does.
    pub async fn dawdle(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// `None` for a comment.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let data = field("data")?;
    // Clients read these by position (drop-in.md, D17).
    let names: Vec<&str> = block
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["event", "data", "id"], "{block}");
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
    Some(Event {
        name: field("event").unwrap().to_owned(),
        id: field("id").expect("every event has an id").parse().unwrap(),
        data,
    })
}
