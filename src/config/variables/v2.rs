//! The Comfy API v2, and what survives a restart.

use super::*;

variables! { "Comfy API v2"
    V2_ENABLED = FLAG, "true",
        "serve `/api/v2`; false = 404, but for its assets";
    STATE_DIR = PATH, "$HOME/.local/state/comfyui-api",
        "jobs, assets and idempotency keys that survive a restart; for this server alone";
    V2_RETENTION_HOURS = hours(), "24",
        "how long a job and its outputs are kept after its end (fractions allowed)";
    V2_ASSET_RETENTION_HOURS = hours(), "168",
        "how long an uploaded asset is kept after its last use";
    V2_STORE_MAX_GB = number(0.001, 1_048_576.0, "GiB"), "20",
        "room for assets and records (GiB, fractions allowed); what was used least goes first";
    V2_MAX_JOBS = number(1.0, 100_000_000.0, "jobs"), "100000",
        "most records of jobs; the oldest ended go first";
    V2_MAX_UPLOAD_MB = number(0.001, 1_048_576.0, "MiB"), "2048",
        "largest uploaded asset, MiB";
    V2_LONG_POLL_S = number(0.0, 30.0, "seconds"), "5",
        "how long the poll of an unfinished job waits for its end; 0 = not at all";
    V2_MAX_STREAMS = number(0.0, 10_000_000.0, "streams, 0 for no limit"), "0",
        "most event streams at once; 0 = no limit";
    V2_MAX_ATTEMPTS = number(1.0, 1000.0, "attempts"), "2",
        "attempts at a job whose ComfyUI dies while it runs";
    V2_QUEUE_TIMEOUT_S = seconds(0.0), "0",
        "a job that waits longer expires; 0 = never";
    KEEP_RUNS = FLAG, "false",
        "keep all runs over HTTP in the store, as if each had `keep`";
    HISTORY_RUNS = number(0.0, 100_000.0, "runs, 0 for none"), "200",
        "how many runs of all kinds `GET /history` remembers without their files; 0 = none";
    V2_DEFAULTS = TEXT.hidden(), "",
        "JSON: delivery fields of `POST /prompt` for every v2 job, such as `{\"convert_output\": \
         {\"format\": \"webp\"}}`";
}
