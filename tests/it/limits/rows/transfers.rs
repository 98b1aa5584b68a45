//! What goes over the network: webhooks, downloads, uploads, telemetry.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    // telemetry
    (
        "spans that wait for the collector",
        "tests/it/telemetry/collector.rs",
        "nobody_waits_for_a_bad_one",
    ),
    (
        "nodes of a prompt that have a span",
        "tests/it/telemetry/spans.rs",
        "two_hundred_nodes_the_longest",
    ),
    (
        "characters of a text in a span",
        "src/telemetry/trace/span.rs",
        "texts_are_bounded",
    ),
    (
        "bytes of a `traceparent`, of a `tracestate`",
        "src/telemetry/trace/context.rs",
        "what_is_malformed_is_ignored",
    ),
    (
        "time for a request to the collector, with its repetitions",
        "tests/it/telemetry/collector.rs",
        "nobody_waits_for_a_bad_one",
    ),
    (
        "bytes of a collector's answer that are read",
        "tests/it/telemetry/collector.rs",
        "nobody_waits_for_a_bad_one",
    ),
    (
        "time for, and bytes of, a Jaeger collector's sampling strategy",
        "tests/it/telemetry/remote.rs",
        "while_nobody_answers_the_initial_share_holds",
    ),
    // webhooks
    (
        "deliveries at once, in all / to one host / to one address",
        "src/webhook/per_receiver_queue.rs",
        "one_endpoint_cannot_take_the_turns_of_another",
    ),
    (
        "deliveries that wait, without `WEBHOOK_SPOOL_DIR`",
        "tests/it/webhook/load.rs",
        "without_a_spool_what_waits_is_bounded",
    ),
    (
        "text of those that wait, without `WEBHOOK_SPOOL_DIR`",
        "tests/it/webhook/load.rs",
        "without_a_spool_the_text_in_memory_is_bounded",
    ),
    (
        "age of a file in `WEBHOOK_SPOOL_DIR`",
        "tests/it/webhook/spool.rs",
        "damaged_files_are_set_aside_and_old_ones_dropped",
    ),
    (
        "system events that wait",
        "tests/it/webhook/events.rs",
        "ten_thousand_events_a_second_with_a_slow_receiver",
    ),
    // downloads and uploads
    (
        "downloads, uploads at once",
        "tests/it/storage/downloads/once.rs",
        "downloads_at_once_are_limited",
    ),
    (
        "of them to one host (name and port)",
        "tests/it/storage/crowds.rs",
        "a_dozen_slow_servers_stop_nobody",
    ),
    (
        "a transfer slower than 10 KB/s over 60 s",
        "tests/it/storage/crowds.rs",
        "a_slow_one_gives_its_place_back_and_a_drip_ends",
    ),
    (
        "a transfer slower than 1 KB/s over 60 s",
        "tests/it/storage/crowds.rs",
        "a_slow_one_gives_its_place_back_and_a_drip_ends",
    ),
    (
        "free space on the disk of `CACHE_DIR`",
        "tests/it/storage/killed.rs",
        "a_disk_that_fills_up_is_named",
    ),
    (
        "size of the cache",
        "tests/it/storage/instances.rs",
        "the_limit_is_one_and_what_another_holds_stays",
    ),
];
