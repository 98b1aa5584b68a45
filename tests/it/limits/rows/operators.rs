//! Tools for agents, what operators see, and fleets.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    // tools for agents
    (
        "how long a call waits for its job",
        "tests/it/mcp/runs/waiting.rs",
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
