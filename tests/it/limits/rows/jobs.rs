//! Jobs, the files that they come from, and their inputs.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    // prompts, jobs and streams
    (
        "graphs on their way into one ComfyUI at a time",
        "src/comfy/client/submit.rs",
        "a_crowd_takes_turns_and_nobody_waits_long_for_others",
    ),
    (
        "ComfyUI's queue",
        "tests/it/v2/errors/limits.rs",
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
        "tests/it/v2/errors/limits.rs",
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
        "tests/it/v2/errors/limits.rs",
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
        "tests/it/prompt/media/directories.rs",
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
];
