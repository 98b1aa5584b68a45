//! What the code that runs is about: the context of a task, read by log lines, new jobs and
//! transfers.

use tokio::task::futures::TaskLocalFuture;

use super::Context;

tokio::task_local! {
    static CURRENT: Option<Context>;
}

/// Runs a future in a context. No `async fn`, which would have room for the future twice.
pub fn scope<F: Future>(
    context: Option<Context>,
    future: F,
) -> TaskLocalFuture<Option<Context>, F> {
    CURRENT.scope(context, future)
}

/// The same for a moment.
pub fn with<T>(context: Option<Context>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, work)
}

/// The context of whatever runs here, if it has one.
pub fn current() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// `trace_id` and `span_id` of a log line.
pub fn log_ids() -> Option<(String, String)> {
    CURRENT
        .try_with(|context| context.as_ref().map(Context::hex_ids))
        .ok()
        .flatten()
}
