//! What a stranger can make us use, and how much of it: the one home of these numbers. Transports
//! and stages ask here instead of inventing their own; `docs/reference/limits.md` is the same for
//! readers.
//!
//! - [`MAX_VALUES`]: the largest real workflows have some 100,000 values; built values cost up to
//!   60 times their text
//! - [`bodies`]: bodies that are read or parsed at one time share [`bodies::SHARE`] times
//!   `MAX_BODY_SIZE_MB` of memory
//! - [`MAX_URL`]: what browsers, proxies and object stores take; presigned URLs have about 2 KiB
//! - [`MAX_NAME`]: ids, classes, ids of nodes: they are keys of lists, lines of the log, parts of
//!   file names
//! - [`MAX_QUOTED`], [`MAX_ERROR`], [`MAX_DETAILS`]: an answer must not be as long as the question
//!   ([`text`])
//! - [`MAX_LOG_LINE`], [`MAX_QUEUE_ENTRY`]: what is kept or written for every prompt
//! - [`MAX_PATTERN`], [`MAX_CREDENTIALS`], [`MATCHING_STEPS`]: two things of a client are
//!   multiplied when credentials are chosen
//! - [`transfers`]: a client names any number of slow hosts: none of them takes what others need
//!
//! Work that grows with what a client sent runs beside the threads that serve others:
//! [`off_runtime`].

pub mod bodies;
pub mod text;
pub mod transfers;

use serde_json::{Map, Value};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Values of a body: members, items, texts, numbers, lists and objects.
pub const MAX_VALUES: usize = 1_000_000;
/// Bodies up to so many bytes never wait for memory.
pub const SMALL_BODY: usize = 1024 * 1024;
/// Bytes of a URL that somebody gives us to fetch, or to send something to.
pub const MAX_URL: usize = 8 * 1024;
/// Characters of an id, a class or the id of a node.
pub const MAX_NAME: usize = 256;
/// Characters of one value that an error text repeats.
pub const MAX_QUOTED: usize = 200;
/// Characters of an error text.
pub const MAX_ERROR: usize = 4_000;
/// Characters of a path into the request.
pub const MAX_LOCATION: usize = 1_000;
/// Bytes of `details` and of `node_errors`.
pub const MAX_DETAILS: usize = 64 * 1024;
/// Bytes of a line of the log.
pub const MAX_LOG_LINE: usize = 16 * 1024;
/// Bytes of an entry of `/queue`.
pub const MAX_QUEUE_ENTRY: usize = 4 * 1024;
/// Lines of the log that are kept for `GET /logs`, and bytes of their texts.
pub const LOG_LINES_KEPT: usize = 5_000;
/// See [`LOG_LINES_KEPT`].
pub const LOG_BYTES_KEPT: usize = 2 << 20;
/// Cached files that `GET /cache` lists, the most lately used.
pub const MAX_CACHE_ENTRIES: usize = 10_000;
/// Streams of `GET /events` at a time.
pub const MAX_EVENT_STREAMS: usize = 100;
/// Deliveries that are listed.
pub const MAX_DELIVERIES: usize = 500;
/// Attempts of a delivery that are listed, the last ones.
pub const MAX_ATTEMPTS_LISTED: usize = 50;
/// Ended downloads that are listed.
pub const MAX_ENDED_DOWNLOADS: usize = 100;
/// Characters of a `url_pattern`.
pub const MAX_PATTERN: usize = 1_024;
/// Credentials of a request.
pub const MAX_CREDENTIALS: usize = 100;
/// Steps that choosing the credentials of one request may take in all; some 20 ms.
pub const MATCHING_STEPS: u64 = 20_000_000;

/// JSON above so many bytes is parsed, built, written and dropped beside the runtime's threads.
const LARGE_TEXT: usize = 128 * 1024;
/// The same for what is built already.
const MANY_VALUES: usize = 5_000;

/// Whether text of this length (bytes) is work for [`off_runtime`].
pub const fn is_large(bytes: usize) -> bool {
    bytes > LARGE_TEXT
}

/// Whether an object is large. Looks at no more than it must.
pub fn is_large_object(object: &Map<String, Value>) -> bool {
    fn spend(value: &Value, left: &mut (usize, usize)) -> bool {
        if left.0 == 0 {
            return false;
        }
        left.0 -= 1;
        match value {
            Value::String(text) => {
                let enough = left.1 >= text.len();
                left.1 = left.1.saturating_sub(text.len());
                enough
            }
            Value::Array(items) => items.iter().all(|item| spend(item, left)),
            Value::Object(members) => members.values().all(|member| spend(member, left)),
            _ => true,
        }
    }
    let mut left = (MANY_VALUES, LARGE_TEXT);
    !object.values().all(|member| spend(member, &mut left))
}

/// Does work on this thread, but first hands whatever else waits for the thread to another one,
/// when the work is `large`. What is bound to a runtime of a single thread (tests) is done in
/// place.
pub fn off_runtime<T>(large: bool, work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if large && handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_objects_are_known_by_text_and_by_number() {
        let large = |value: Value| is_large_object(value.as_object().unwrap());
        assert!(!large(json!({"a": {"b": [1, 2, "x"]}})));
        assert!(large(json!({"a": {"b": "x".repeat(200_000)}})));
        assert!(large(json!({"a": vec![0; 6_000]})));
        assert!(large(json!({"a": {"b": vec![json!({}); 6_000]}})));
    }

    #[tokio::test]
    async fn work_is_done_on_every_kind_of_runtime() {
        assert_eq!(off_runtime(true, || 1), 1);
        let other = std::thread::spawn(|| off_runtime(true, || 2)).join();
        assert_eq!(other.ok(), Some(2));
    }
}
