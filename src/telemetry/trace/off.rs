//! What all this costs while it is off: not one allocation for a prompt that comes without a
//! context.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::Map;
use url::Url;

use super::{Attempts, JobTrace, PromptFacts, RequestTrace, Span, Transfer, UploadSpans, scope};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's, and how often each thread has asked it.
struct Counting;

// SAFETY: everything is handed on to the system's allocator; counting touches a number of this
// thread alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as it was asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as it was asked.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Everything that a prompt does with its trace, from its request to its webhook.
fn whole_way(url: &Url, graph: &Map<String, serde_json::Value>) {
    let facts = PromptFacts {
        id: "a",
        source: "http",
        workflow: None,
    };
    let trace = JobTrace::begin(scope::current().as_ref(), facts);
    trace.model(|| Some("never asked".to_owned()));
    for name in ["preprocess", "postprocess", "upload"] {
        let mut stage: Span = trace.stage(name);
        stage.fail("x");
    }
    let attempts = Attempts::wanted();
    attempts.finish(url, super::now(), true, Ok((1, false)));
    trace.queued();
    trace.started();
    trace.ran(Some(1), std::iter::empty());
    trace.executed(graph, None);
    let upload = UploadSpans::new("http", url.as_str());
    upload.file(1, |()| "x", &Ok::<(), ()>(()));
    trace.delivered(1, Some("image"));
    let carried = trace.carried();
    let mut attempt = Transfer::begin("POST", url, carried.context.as_ref());
    attempt.webhook("a", 1);
    attempt.answered(200);
    trace.release();
    assert!(scope::log_ids().is_none());
}

#[test]
fn off_it_allocates_nothing() {
    assert_eq!(allocations(|| drop(Box::new(1_u64))), 1, "it counts");
    let url = Url::parse("https://host/path").unwrap();
    let graph = Map::new();
    assert_eq!(allocations(|| whole_way(&url, &graph)), 0);
    let request = Request::post("http://host/prompt")
        .header("host", "host")
        .header("user-agent", "x")
        .body(Body::empty())
        .unwrap();
    let response = Response::new(Body::empty());
    let passed = allocations(|| {
        let trace = RequestTrace::begin(&request);
        let answered = trace.answered(response);
        // Not its own end: only what came on the way.
        std::mem::forget(answered);
    });
    assert_eq!(passed, 0);
}
