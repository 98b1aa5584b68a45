//! What clients send: bodies, names and texts, connections.

use super::Row;

pub(super) const ROWS: &[Row] = &[
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
    ("nesting of JSON", "tests/it/http/refusals.rs", "depths"),
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
];
