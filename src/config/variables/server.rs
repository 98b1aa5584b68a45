//! The HTTP server, and how logs look.

use super::*;

/// The Node server's levels; ours always says why it ends.
const LOG_LEVELS: &[&str] = &["trace", "debug", "info", "warn", "error", "fatal", "silent"];

variables! { "Server"
    HOST = TEXT, "::",
        "address to listen on (`::` is IPv4 and IPv6)";
    PORT = port(0), "3000",
        "port to listen on";
    MAX_BODY_SIZE_MB = number(0.001, 1_048_576.0, "MiB").of_node(), "100",
        "largest request body, MiB";
    MAX_QUEUE_DEPTH = number(0.0, 4_294_967_295.0, "prompts, 0 for no limit").of_node(), "0",
        "`/ready` answers 503 when ComfyUI's queue is this long; 0 = no limit";
    API_KEYS = LIST.hidden(), "",
        "comma-separated keys that clients must present; unset = open";
    METRICS_REQUIRE_KEY = FLAG, "false",
        "`/metrics` needs a key too";
    CORS_ALLOWED_ORIGINS = LIST, "",
        "comma-separated browser origins that may call the API, or `*`";
    ALLOWED_HOSTS = LIST, "",
        "comma-separated names by which browsers on this machine may reach the server, beside \
         localhost";
    SHUTDOWN_GRACE_S = seconds(0.0), "30",
        "seconds that prompts in flight get to finish after SIGTERM";
    CONSOLE = FLAG, "true",
        "the web console at `/console/`";
    CONSOLE_DIR = PATH, "",
        "folder that the console's files are read from at each request, instead of those in the \
         binary";
    LOG_LEVEL = words(LOG_LEVELS).of_node(), "info",
        "trace, debug, info, warn, error or fatal";
    LOG_FORMAT = words(&["json", "pretty", "auto"]), "auto",
        "json or pretty; auto = pretty on a terminal, JSON otherwise";
}
