//! Spans of what we ask of others: downloads, uploads, attempts at webhooks.
//!
//! A transfer is made of attempts, each a span of its own over HTTP; S3, Azure and the hub make
//! many calls for a file and get one span for all. What an attempt was answered is noted where the
//! answer is seen, deep inside of it.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use super::{Context, Kind, Span, clock, names, scope};

tokio::task_local! {
    static STATUS: Cell<u16>;
}

/// Attempts that are remembered for a transfer.
const MOST_ATTEMPTS: usize = 16;

/// The status of an answer to what this task is asking.
pub fn seen_status(status: u16) {
    let _ = STATUS.try_with(|seen| seen.set(status));
}

/// Where it goes: without userinfo, query and fragment.
fn describe(span: &mut Span, mut url: Url) {
    // Fails for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    if let Some(host) = url.host_str() {
        span.set(
            names::SERVER_ADDRESS,
            host.trim_matches(['[', ']']).to_owned(),
        );
    }
    if let Some(port) = url.port_or_known_default() {
        span.set(names::SERVER_PORT, port);
    }
    span.set(names::URL_FULL, String::from(url));
}

/// One call to another server.
#[derive(Debug)]
pub struct Transfer(Span);

impl Transfer {
    /// Begins one.
    pub fn begin(method: &'static str, url: &Url, parent: Option<&Context>) -> Self {
        let mut span = Span::below(method, Kind::Client, parent);
        if span.is_recorded() {
            span.set(names::HTTP_METHOD, method);
            describe(&mut span, url.clone());
        }
        Self(span)
    }

    /// It delivers a webhook of so many bytes.
    pub fn webhook(&mut self, id: &str, bytes: u64) {
        self.0.set_with(names::WEBHOOK_ID, || Some(id.to_owned()));
        self.0.set(names::BYTES, bytes);
    }

    /// Its span.
    pub const fn span(&mut self) -> &mut Span {
        &mut self.0
    }

    /// What goes out with it.
    pub const fn context(&self) -> Option<&Context> {
        self.0.context()
    }

    /// So often it was made before.
    pub fn resent(&mut self, times: u32) {
        if times > 0 {
            self.0.set(names::HTTP_RESEND_COUNT, times);
        }
    }

    /// What it was answered.
    pub fn answered(&mut self, status: u16) {
        self.0.set(names::HTTP_STATUS, status);
    }

    /// It has failed; the status says why, where there was an answer.
    pub fn failed(&mut self, status: Option<u16>, otherwise: &'static str) {
        match status.filter(|status| *status >= 400) {
            Some(status) => self.0.fail(status.to_string()),
            None => self.0.fail(otherwise),
        }
    }

    /// Runs it and notes its status.
    pub async fn watch<T>(&mut self, work: impl Future<Output = T>) -> (T, Option<u16>) {
        if !self.0.is_recorded() {
            return (work.await, None);
        }
        let (result, status) = watched(work).await;
        if let Some(status) = status {
            self.answered(status);
        }
        (result, status)
    }
}

async fn watched<T>(work: impl Future<Output = T>) -> (T, Option<u16>) {
    let work = async {
        let result = work.await;
        let status = STATUS.try_with(Cell::get).unwrap_or(0);
        (result, Some(status).filter(|status| *status > 0))
    };
    STATUS.scope(Cell::new(0), work).await
}

/// An attempt at a download, for a span that is made afterwards: whoever waits for the file may
/// wait with others.
#[derive(Debug)]
struct Attempt {
    start: u64,
    /// `None` while it goes on.
    end: Option<u64>,
    status: Option<u16>,
    failed: bool,
}

/// The attempts at a download. Empty and without cost where nobody will see them.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Option<Arc<Mutex<Vec<Attempt>>>>);

impl Attempts {
    /// For a download that whoever runs here has asked for.
    pub fn wanted() -> Self {
        let sampled = super::tracer().is_some()
            && scope::current().is_some_and(|context| context.is_sampled());
        Self(sampled.then(Arc::default))
    }

    /// Runs an attempt: it fails here, or goes on until the next one begins or the download ends.
    pub async fn run<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let Some(all) = &self.0 else {
            return work.await;
        };
        let start = clock::now();
        let (result, status) = watched(work).await;
        let mut all = all.lock();
        if let Some(last) = all.last_mut() {
            last.end.get_or_insert(start);
        }
        if all.len() < MOST_ATTEMPTS {
            let failed = result.is_err();
            all.push(Attempt {
                start,
                end: failed.then(clock::now),
                status,
                failed,
            });
        }
        result
    }

    /// Makes the spans. `began` is the moment at which the file was asked for.
    pub fn finish(
        self,
        url: &Url,
        began: u64,
        per_attempt: bool,
        outcome: Result<(u64, bool), &'static str>,
    ) {
        let Some(all) = self.0 else { return };
        let parent = scope::current();
        let mut attempts = std::mem::take(&mut *all.lock());
        if let Some(last) = attempts.last_mut().filter(|_| outcome.is_ok()) {
            last.failed = false;
        }
        let resent = u32::try_from(attempts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if !per_attempt || attempts.is_empty() {
            let status = attempts.last().and_then(|attempt| attempt.status);
            let mut span = Transfer::begin("GET", url, parent.as_ref());
            span.span().began_at(began);
            span.resent(resent);
            conclude(&mut span, status, Some(outcome));
            return;
        }
        let count = attempts.len();
        for (n, attempt) in attempts.into_iter().enumerate() {
            let last = n + 1 == count;
            let mut span = Transfer::begin("GET", url, parent.as_ref());
            span.span().began_at(attempt.start);
            span.resent(u32::try_from(n).unwrap_or(u32::MAX));
            let ended = match attempt.end {
                Some(_) if !last => attempt.failed.then_some(Err("_OTHER")),
                _ => Some(outcome),
            };
            conclude(&mut span, attempt.status, ended);
            let end = attempt.end.filter(|_| !last || attempt.failed);
            span.0.end_at(end.unwrap_or_else(clock::now));
        }
    }
}

fn conclude(
    span: &mut Transfer,
    status: Option<u16>,
    outcome: Option<Result<(u64, bool), &'static str>>,
) {
    if let Some(status) = status {
        span.answered(status);
    }
    match outcome {
        Some(Ok((bytes, hit))) => {
            span.span().set(names::BYTES, bytes);
            span.span().set(names::CACHE_HIT, hit);
        }
        Some(Err(kind)) => {
            span.span().set(names::CACHE_HIT, false);
            span.failed(status, kind);
        }
        None => span.failed(status, "incomplete"),
    }
}

/// The spans of an upload: one for each attempt over HTTP, else one for the file.
#[derive(Debug)]
pub struct UploadSpans(Option<Upload>);

#[derive(Debug)]
struct Upload {
    parent: Option<Context>,
    url: Url,
    backend: &'static str,
    began: u64,
    /// Attempts so far, and the last status.
    made: Mutex<(u32, Option<u16>)>,
}

impl UploadSpans {
    /// Of a file that is about to be sent.
    pub fn new(backend: &'static str, url: &str) -> Self {
        Self::together(backend, url, clock::now())
    }

    /// Of a file that was sent with others, from a moment on.
    pub fn together(backend: &'static str, url: &str, began: u64) -> Self {
        let parent =
            scope::current().filter(|context| super::tracer().is_some() && context.is_sampled());
        let upload = parent.and_then(|parent| {
            Some(Upload {
                parent: Some(parent),
                url: Url::parse(url).ok()?,
                backend,
                began,
                made: Mutex::default(),
            })
        });
        Self(upload)
    }

    /// Runs an attempt.
    pub async fn attempt<E>(
        &self,
        bytes: u64,
        word: fn(&E) -> &'static str,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let Some(upload) = &self.0 else {
            return work.await;
        };
        let before = upload.made.lock().0;
        let start = clock::now();
        let (result, status) = watched(work).await;
        *upload.made.lock() = (before + 1, status);
        if upload.is_http() {
            upload.span(
                start,
                before,
                bytes,
                status,
                result.as_ref().err().map(word),
            );
        }
        result
    }

    /// All of them together have ended.
    pub fn file<T, E>(&self, bytes: u64, word: fn(&E) -> &'static str, result: &Result<T, E>) {
        let Some(upload) = &self.0 else { return };
        let (made, status) = *upload.made.lock();
        // One over HTTP that was never begun, or was cut off, has no span yet.
        if !upload.is_http() || made == 0 {
            let failure = result.as_ref().err().map(word);
            upload.span(upload.began, made.saturating_sub(1), bytes, status, failure);
        }
    }
}

impl Upload {
    fn is_http(&self) -> bool {
        self.backend == "http"
    }

    fn span(
        &self,
        start: u64,
        resent: u32,
        bytes: u64,
        status: Option<u16>,
        failure: Option<&'static str>,
    ) {
        // A commit is posted.
        let method = if self.backend == "huggingface" {
            "POST"
        } else {
            "PUT"
        };
        let mut transfer = Transfer::begin(method, &self.url, self.parent.as_ref());
        transfer.0.began_at(start);
        transfer.resent(resent);
        if let Some(status) = status {
            transfer.answered(status);
        }
        match failure {
            None => transfer.0.set(names::BYTES, bytes),
            Some(word) => transfer.failed(status, word),
        }
    }
}
