//! Every row of docs/reference/limits.md, and the test that would fail if it were not true.

use std::collections::BTreeMap;
use std::path::Path;

/// The first cell of a row; the file of its test, and the test.
const ROWS: &[(&str, &str, &str)] = &[
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
    // bodies of requests
    (
        "size of a body, decoded (`gzip`, `deflate`)",
        "tests/it/requests/bodies.rs",
        "bodies_are_read_as_real_clients_send_them",
    ),
    (
        "values of a body (members, items, texts, numbers, lists, objects)",
        "tests/it/requests/costs.rs",
        "a_body_costs_by_its_size_and_not_by_its_shape",
    ),
    (
        "memory of all bodies that are being read or parsed at one time",
        "tests/it/requests/costs.rs",
        "large_bodies_share_their_memory",
    ),
    (
        "a body that brings less than 64 KB/s over 10 s while others wait for memory",
        "src/limits/bodies.rs",
        "large_bodies_wait_for_each_other_and_small_ones_for_nobody",
    ),
    (
        "a body of which nothing comes",
        "src/transport/rest/serve/pace.rs",
        "drops_are_given_up_and_slow_lines_are_not",
    ),
    ("nesting of JSON", "tests/it/http.rs", "depths"),
    // names and texts of clients
    (
        "`id`",
        "tests/it/requests/ids.rs",
        "any_text_is_an_id_and_comes_back_as_it_was",
    ),
    (
        "class of a node, id of a node",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "URL (webhooks, upload prefixes, downloads, media and models in a graph)",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "each part of a `filename_prefix`, the last one with the id in front",
        "tests/it/requests/fields.rs",
        "prefixes_are_judged_before_anything_runs",
    ),
    (
        "credentials of a request",
        "tests/it/requests/costs.rs",
        "patterns_never_hold_up_the_server",
    ),
    (
        "`url_pattern`",
        "tests/it/requests/costs.rs",
        "patterns_never_hold_up_the_server",
    ),
    (
        "comparing all patterns with all URLs of a request",
        "tests/it/requests/costs.rs",
        "patterns_never_hold_up_the_server",
    ),
    // texts that come back
    (
        "one value that an error text repeats",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "an error text",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "`location`",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "`details`, `node_errors`",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    (
        "an entry of `GET /queue`",
        "tests/it/requests/texts.rs",
        "streams_and_lists_are_bounded_too",
    ),
    (
        "a line of the log",
        "tests/it/requests/texts.rs",
        "long_words_do_not_come_back",
    ),
    // connections
    (
        "connections at once",
        "tests/it/limits/connections.rs",
        "who_says_nothing_keeps_nobody_out",
    ),
    (
        "requests at once on one HTTP/2 connection",
        "tests/it/limits/connections.rs",
        "requests_at_once_on_one_http2_connection_are_limited",
    ),
    (
        "a connection on which no request begins, or whose answer is not read",
        "src/transport/rest/serve/activity.rs",
        "an_answer_that_nobody_reads_is_dropped_and_the_connection_is_idle_then",
    ),
    (
        "a body slower than 1 KB/s",
        "src/transport/rest/serve/pace.rs",
        "drops_are_given_up_and_slow_lines_are_not",
    ),
    (
        "fields of a head",
        "tests/it/limits/connections.rs",
        "headers_and_addresses_are_bounded",
    ),
    (
        "address of a request",
        "tests/it/limits/connections.rs",
        "headers_and_addresses_are_bounded",
    ),
    // prompts, jobs and streams
    (
        "ComfyUI's queue",
        "tests/it/v2/errors.rs",
        "keys_and_queues_and_streams_have_limits",
    ),
    (
        "ended prompts in `GET /queue`",
        "tests/it/prompt/listing.rs",
        "a_hundred_finished_prompts_are_remembered",
    ),
    (
        "events that a stream's slow reader has not read",
        "tests/it/requests/texts.rs",
        "streams_and_lists_are_bounded_too",
    ),
    (
        "event streams of the Comfy API v2",
        "tests/it/v2/errors.rs",
        "keys_and_queues_and_streams_have_limits",
    ),
    (
        "time that ComfyUI runs a prompt",
        "tests/it/faults/watch.rs",
        "a_prompt_that_runs_for_too_long_is_cancelled_and_one_that_waits_is_not",
    ),
    (
        "records of jobs",
        "tests/it/limits/records.rs",
        "the_oldest_ended_job_makes_room_and_one_in_flight_does_not",
    ),
    (
        "bytes of the store",
        "tests/it/v2/assets.rs",
        "what_a_job_in_flight_needs_is_not_evicted_and_a_full_store_says_so",
    ),
    (
        "one uploaded asset",
        "tests/it/v2/errors.rs",
        "keys_and_queues_and_streams_have_limits",
    ),
    (
        "deliveries of a task that ends its instance",
        "tests/it/amqp_product/crashes.rs",
        "a_task_that_takes_the_whole_instance_with_it_is_given_up",
    ),
    (
        "workflow of an editor: groups in one another, what they grow to",
        "tests/it/graph/limits.rs",
        "definitions_in_themselves_and_too_much_of_them_are_errors",
    ),
    (
        "ComfyUI behind one server",
        "tests/it/instances/config.rs",
        "what_does_not_fit_together_ends_the_start_with_2",
    ),
    (
        "runs of a job that loses its ComfyUI",
        "tests/it/instances/lost.rs",
        "a_job_that_kills_its_comfyui_ends_for_good",
    ),
    (
        "taking a waiting job out of a queue for another ComfyUI",
        "tests/it/instances/placement.rs",
        "an_idle_one_takes_over_what_waits_elsewhere",
    ),
    (
        "runs in memory",
        "tests/it/console_api/history.rs",
        "one_list_of_what_is_remembered_and_what_is_kept_page_by_page",
    ),
    (
        "media in a request that is shown",
        "tests/it/console_api/history.rs",
        "a_run_shows_what_was_asked_for_without_secrets_and_media_and_why_it_failed",
    ),
    (
        "records of kept runs and jobs",
        "tests/it/limits/records.rs",
        "the_oldest_ended_job_makes_room_and_one_in_flight_does_not",
    ),
    (
        "outputs, uploads and records",
        "tests/it/v2/assets.rs",
        "what_a_job_in_flight_needs_is_not_evicted_and_a_full_store_says_so",
    ),
    (
        "a page of `GET /history`",
        "tests/it/console_api/history.rs",
        "one_list_of_what_is_remembered_and_what_is_kept_page_by_page",
    ),
    (
        "an upload to `PUT /uploads/{token}`",
        "tests/it/console_api/uploads.rs",
        "an_announced_upload_is_taken_once_without_a_key_and_is_an_input_everywhere",
    ),
    (
        "thumbnails kept of one asset",
        "tests/it/console_api/uploads.rs",
        "thumbnails_are_small_made_once_and_gone_with_their_blob",
    ),
    // workflow files
    (
        "processor time of a call",
        "tests/it/workflow/limits.rs",
        "an_endless_loop_ends_and_the_next_call_works",
    ),
    (
        "time of a call from start to end",
        "tests/it/workflow/limits.rs",
        "every_kind_of_loop_ends",
    ),
    (
        "memory of a call",
        "tests/it/workflow/limits.rs",
        "memory_and_depth_are_limited",
    ),
    (
        "calls that take longer than 25 ms, at once",
        "tests/it/workflow/limits.rs",
        "among_a_thousand_calls_fifty_endless_loops_starve_nobody",
    ),
    (
        "isolates that are kept warm",
        "tests/it/workflow/limits.rs",
        "among_a_thousand_calls_fifty_endless_loops_starve_nobody",
    ),
    // archives as inputs
    (
        "files and folders",
        "tests/it/prompt/media.rs",
        "archives_have_limits",
    ),
    (
        "unpacked size, at least 4 KiB an entry",
        "tests/it/media/archives.rs",
        "depth_is_limited_and_every_entry_takes_a_block",
    ),
    (
        "folders in one another",
        "tests/it/media/archives.rs",
        "depth_is_limited_and_every_entry_takes_a_block",
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
        "tests/it/storage/downloads.rs",
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
    // conversions
    (
        "memory of one picture's conversion, estimated from its header",
        "tests/it/media/bounded.rs",
        "a_small_file_of_a_large_picture_is_delivered_as_it_is",
    ),
    (
        "memory of all conversions together",
        "tests/it/media/bounded.rs",
        "cancelling_stops_the_codec_and_animations_keep_no_still_waiting",
    ),
    (
        "unpacked profile or text chunk of a PNG",
        "tests/it/media/bounded.rs",
        "a_small_file_of_a_large_picture_is_delivered_as_it_is",
    ),
    (
        "time of a conversion",
        "tests/it/media/bounded.rs",
        "a_conversion_has_a_time_limit_and_packing_ends_when_cancelled",
    ),
    (
        "stills, animations, videos at one time",
        "tests/it/media/bounded.rs",
        "cancelling_stops_the_codec_and_animations_keep_no_still_waiting",
    ),
    // tools for agents
    (
        "how long a call waits for its job",
        "tests/it/mcp/runs.rs",
        "when_the_wait_is_over_the_job_goes_on",
    ),
    (
        "one result of a tool",
        "tests/it/mcp/files.rs",
        "a_result_stays_below_what_clients_take",
    ),
    (
        "files that a result describes",
        "tests/it/mcp/files.rs",
        "a_result_stays_below_what_clients_take",
    ),
    (
        "a text, a sound in a result",
        "tests/it/mcp/files.rs",
        "texts_and_sounds_have_their_size",
    ),
    (
        "longer side of a preview",
        "tests/it/mcp/files.rs",
        "a_result_stays_below_what_clients_take",
    ),
    (
        "a file read by `resources/read`",
        "tests/it/mcp/files.rs",
        "what_is_too_large_names_its_address",
    ),
    (
        "jobs whose files `resources/list` shows",
        "tests/it/mcp/files.rs",
        "the_files_of_the_last_jobs_are_listed",
    ),
    (
        "tools, resources of a page",
        "tests/it/mcp/tools.rs",
        "long_lists_come_in_pages",
    ),
    (
        "open `subscriptions/listen`",
        "src/transport/mcp/listen.rs",
        "listeners_are_counted",
    ),
    (
        "messages of a batch (2025-03-26)",
        "tests/it/mcp/protocol.rs",
        "the_oldest_revision_has_batches_and_no_links",
    ),
    (
        "texts and statistics kept with a job",
        "tests/it/mcp/files.rs",
        "texts_and_sounds_have_their_size",
    ),
    // what operators see
    (
        "ended downloads in `GET /downloads`",
        "tests/it/operations/downloads.rs",
        "every_end_is_listed_newest_first",
    ),
    (
        "deliveries in `GET /deliveries`",
        "src/webhook/deliveries/tests.rs",
        "events_make_room_for_what_was_not_delivered",
    ),
    (
        "attempts of a delivery",
        "src/webhook/deliveries/tests.rs",
        "a_delivery_is_followed_from_its_first_attempt_to_its_end",
    ),
    (
        "entries in `GET /cache`",
        "src/storage/cache/show.rs",
        "the_list_is_bounded_and_the_figures_are_of_all",
    ),
    (
        "lines for `GET /logs`",
        "src/telemetry/recent/tests.rs",
        "the_last_lines_are_kept_within_bounds",
    ),
    (
        "streams of `GET /events`",
        "tests/it/operations/events.rs",
        "streams_are_bounded",
    ),
    (
        "changes of a topic of a stream",
        "tests/it/operations/events.rs",
        "a_topic_changes_five_times_a_second_at_most",
    ),
    // a gateway and its fleet, and what else was last
    (
        "request, graph, statistics, texts, warnings of a run in memory",
        "tests/it/limits/history.rs",
        "what_is_long_is_not_remembered_of_a_run",
    ),
    (
        "making a thumbnail",
        "src/media/thumbnail.rs",
        "it_waits_among_the_conversions_but_not_for_ever",
    ),
    (
        "a message to an instance, and its result",
        "tests/it/fleet/limits.rs",
        "what_does_not_fit_into_a_message_is_refused_or_goes_beside_it",
    ),
    (
        "waiting for the broker's confirm",
        "src/fleet/publish.rs",
        "what_is_not_confirmed_in_time_is_refused",
    ),
    (
        "messages that wait to be published",
        "src/fleet/publish.rs",
        "so_many_wait_and_the_next_waits_for_a_place",
    ),
    (
        "events in the queue of what is only of interest now",
        "tests/it/fleet/limits.rs",
        "the_doors_for_instances_are_bounded",
    ),
    (
        "events that are kept on the disk for a job that survives",
        "src/fleet/record.rs",
        "events_are_kept_up_to_their_limit_and_the_result_beyond_it",
    ),
    (
        "instances that are remembered",
        "src/fleet/seen.rs",
        "ten_thousand_instances_are_remembered_and_no_more",
    ),
    (
        "a catalogue of node classes",
        "src/fleet/catalogue.rs",
        "a_catalogue_that_unpacks_to_too_much_is_not_read",
    ),
    (
        "body of a claim",
        "tests/it/fleet/limits.rs",
        "the_doors_for_instances_are_bounded",
    ),
    (
        "name of an output that an instance puts",
        "tests/it/fleet/limits.rs",
        "the_doors_for_instances_are_bounded",
    ),
    (
        "waiting for the answer to a claim",
        "tests/it/fleet/limits.rs",
        "a_claim_that_is_not_answered_holds_up_only_what_needs_secrets",
    ),
    (
        "trying to put an output to the gateway",
        "src/transport/amqp/gateway.rs",
        "files_are_tried_for_so_long_and_no_longer",
    ),
    (
        "trying to fetch an input from the gateway",
        "src/transport/amqp/gateway.rs",
        "files_are_tried_for_so_long_and_no_longer",
    ),
    (
        "waiting for the turn of a prompt that nobody waits for the end of",
        "tests/it/prompt/answers.rs",
        "a_202_comes_while_another_prompt_has_the_turn",
    ),
];

#[test]
fn every_row_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/reference/limits.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|cell| !matches!(*cell, "resource" | "---"))
        .collect();
    let known: BTreeMap<&str, (&str, &str)> = ROWS
        .iter()
        .map(|(row, file, test)| (*row, (*file, *test)))
        .collect();
    for row in &rows {
        let (file, test) = known
            .get(row)
            .unwrap_or_else(|| panic!("the row {row:?} of limits.md names no test here"));
        let source = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(
            source.contains(&format!("fn {test}(")),
            "{file} has no {test}, which the row {row:?} needs"
        );
    }
    for row in known.keys() {
        assert!(rows.contains(row), "limits.md has no row {row:?} any more");
    }
}
