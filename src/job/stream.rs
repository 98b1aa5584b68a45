//! What the streams of a prompt show: events, kept in order for each reader, never slowing the
//! prompt (delivery.md).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::document::Document;
use crate::mailbox::Mailbox;

/// A reader that is this far behind gets only the newest progress and previews.
const LAG: usize = 64;

/// What kind of event it is: what may be left out when the reader is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// `progress`, `progress_state`, previews, transfer progress, `status`: the newest says it all.
    /// The number tells kinds apart.
    Newest(u8),
    /// Life-cycle events: always delivered.
    Always,
    /// `complete` or `error`: the last one.
    Final,
}

/// The body of an event.
#[derive(Debug, Clone)]
pub enum Data {
    /// One line of JSON.
    Text(Bytes),
    /// The sync response body.
    Document(Document),
}

/// One event of a stream.
#[derive(Debug, Clone)]
pub struct StreamEvent {
    /// Rising within a prompt; sent as the event's `id`.
    pub sequence: u64,
    /// `message`, `complete` or `error`.
    pub name: &'static str,
    /// What may be done with it when the reader is slow.
    pub weight: Weight,
    /// The body.
    pub data: Data,
}

/// The streams of one prompt.
#[derive(Debug, Default)]
pub struct Streams {
    /// Somebody has attached at some time.
    pub read: Arc<AtomicBool>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sequence: u64,
    readers: Vec<Weak<Queue>>,
    /// The end, for readers that come after it.
    ended: Option<StreamEvent>,
}

#[derive(Debug, Default)]
struct Queue {
    events: Mailbox<StreamEvent>,
    /// Gets `complete` with the file contents.
    with_files: bool,
}

/// One reader.
#[derive(Debug)]
pub struct Reader {
    queue: Arc<Queue>,
}

impl Streams {
    /// A new reader of everything from now on. `with_files` asks for the whole response body in
    /// `complete`.
    pub fn attach(&self, with_files: bool) -> Reader {
        let queue = Arc::new(Queue {
            with_files,
            ..Queue::default()
        });
        self.read.store(true, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        if let Some(end) = &inner.ended {
            queue.push(end.clone());
        }
        inner.readers.retain(|reader| reader.strong_count() > 0);
        inner.readers.push(Arc::downgrade(&queue));
        Reader { queue }
    }

    /// Whether anybody reads; events need not be made otherwise.
    pub fn has_readers(&self) -> bool {
        self.read.load(Ordering::Relaxed)
            && self
                .inner
                .lock()
                .readers
                .iter()
                .any(|reader| reader.strong_count() > 0)
    }

    /// Sends a `message` event to all readers.
    pub fn message(&self, weight: Weight, text: impl FnOnce() -> String) {
        if self.has_readers() {
            let data = Data::Text(text().into());
            self.send("message", weight, |_| data.clone());
        }
    }

    /// Sends the end. Readers that came with the request get all of it, others get it without the
    /// files.
    pub fn end(&self, name: &'static str, body: &Document) {
        self.send(name, Weight::Final, |with_files| {
            Data::Document(if with_files {
                body.clone()
            } else {
                body.without_files()
            })
        });
    }

    fn send(&self, name: &'static str, weight: Weight, data: impl Fn(bool) -> Data) {
        let mut inner = self.inner.lock();
        if inner.ended.is_some() {
            return;
        }
        inner.sequence += 1;
        let event = |with_files| StreamEvent {
            sequence: inner.sequence,
            name,
            weight,
            data: data(with_files),
        };
        for queue in inner.readers.iter().filter_map(Weak::upgrade) {
            queue.push(event(queue.with_files));
        }
        if weight == Weight::Final {
            inner.ended = Some(event(false));
            inner.readers.clear();
        }
    }
}

impl Queue {
    fn push(&self, event: StreamEvent) {
        let weight = event.weight;
        self.events.put_after(event, |waiting| {
            if matches!(weight, Weight::Newest(_)) && waiting.len() >= LAG {
                waiting.retain(|event| event.weight != weight);
            }
        });
    }
}

impl Reader {
    /// The texts that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<String> {
        let text = |event: &StreamEvent| {
            if let Data::Text(text) = &event.data {
                String::from_utf8_lossy(text).into_owned()
            } else {
                String::new()
            }
        };
        std::iter::from_fn(|| self.queue.events.take())
            .map(|event| text(&event))
            .collect()
    }

    /// The next event; waits for it. `None` after the final one has been taken. Cancel-safe.
    pub async fn next(&self) -> StreamEvent {
        self.queue.events.next().await
    }

    /// Waits until something has happened that is worth a stream, without taking it: more than a
    /// change of `state`. An end does not count: when it is the first thing to tell, it is better
    /// told without a stream.
    pub async fn wait_for_more_than_state(&self) {
        let more = |event: &StreamEvent| match &event.data {
            Data::Text(text) => !text.starts_with(br#"{"type":"state""#),
            Data::Document(_) => false,
        };
        self.queue.events.until_any(more).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_progress_and_every_life_cycle_event() {
        let streams = Streams::default();
        let reader = streams.attach(false);
        for i in 0..1000 {
            streams.message(Weight::Newest(1), || format!("p{i}"));
            if i % 100 == 0 {
                streams.message(Weight::Always, || format!("l{i}"));
            }
        }
        streams.end("complete", &Document::from_text("full"));
        streams.message(Weight::Always, || "after the end".into());
        let mut seen = Vec::new();
        loop {
            let event = reader.next().await;
            let text = match event.data {
                Data::Text(text) => text,
                Data::Document(document) => document.collect().await.unwrap(),
            };
            seen.push((event.sequence, String::from_utf8(text.to_vec()).unwrap()));
            if event.weight == Weight::Final {
                break;
            }
        }
        assert!(
            seen.len() < 100 && seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{seen:?}"
        );
        assert_eq!(
            seen.iter()
                .filter(|(_, text)| text.starts_with('l'))
                .count(),
            10
        );
        assert_eq!(
            seen.iter()
                .rfind(|(_, text)| text.starts_with('p'))
                .unwrap()
                .1,
            "p999"
        );
        assert_eq!(seen.last().unwrap().1, "full");
        let late = streams.attach(true).next().await;
        assert_eq!(
            late.weight,
            Weight::Final,
            "a reader that comes too late is told the end"
        );
    }
}
