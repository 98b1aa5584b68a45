//! Every family with its labels, at zero: a dashboard or an alert must not wait for something to
//! happen first.

use super::declared::*;
use super::record::{amqp_connected, cache_size, otel_dropped, process, store_size};

const WEBHOOK_KINDS: [&str; 3] = ["v2", "legacy", "system"];

pub(super) fn register() {
    describe();
    for status in ["succeeded", "failed", "interrupted"] {
        for source in ["http", "amqp", "workflow", "v2", "mcp", "warmup"] {
            PROMPTS.add([status.into(), source.into()], 0);
        }
    }
    for stage in ["preprocess", "comfy_round_trip", "postprocess", "upload"] {
        STAGE_SECONDS.show([stage.into()]);
    }
    for status in ["succeeded", "failed", "canceled", "expired"] {
        JOBS.add([status.into()], 0);
    }
    LOST_ATTEMPTS.add(None, 0);
    STREAMS.set(None, 0.0);
    store_size(0);
    PROMPTS_IN_FLIGHT.set(None, 0.0);
    for outcome in ["success", "failure"] {
        for backend in ["http", "s3", "azure", "huggingface", "git"] {
            DOWNLOADS.add([backend.into(), outcome.into()], 0);
            DOWNLOAD_BYTES.add([backend.into()], 0);
        }
        for backend in ["http", "s3", "azure", "huggingface"] {
            UPLOADS.add([backend.into(), outcome.into()], 0);
            UPLOAD_BYTES.add([backend.into()], 0);
        }
        for kind in WEBHOOK_KINDS {
            WEBHOOK_ATTEMPTS.add([kind.into(), outcome.into()], 0);
        }
        AMQP_PUBLISHED.add([outcome.into()], 0);
    }
    for kind in WEBHOOK_KINDS {
        for fate in ["delivered", "failed", "gone", "spooled"] {
            WEBHOOKS.add([kind.into(), fate.into()], 0);
        }
    }
    cache_size(0);
    for outcome in ["hit", "miss"] {
        CACHE_LOOKUPS.add([outcome.into()], 0);
    }
    CACHE_EVICTIONS.add(None, 0);
    CACHE_EVICTED_BYTES.add(None, 0);
    for target in ["webhook", "amqp"] {
        EVENTS_DROPPED.add([target.into(), "progress".into()], 0);
    }
    amqp_connected(false);
    for outcome in ["ack", "requeue", "reject"] {
        AMQP_TASKS.add([outcome.into()], 0);
    }
    for signal in ["traces", "metrics"] {
        otel_dropped(signal, 0);
    }
    process();
}
