//! Webhooks and system events.

use super::*;

variables! { "Webhooks and events"
    WEBHOOK_SECRET = TEXT.hidden(), "",
        "key(s) that sign webhooks: base64, `whsec_` optional, separated by spaces; any other text \
         as the Node server reads it";
    PROMPT_WEBHOOK_RETRIES = number(0.0, 1000.0, "retries").of_node(), "3",
        "retries of a webhook after its first attempt";
    WEBHOOK_ALLOW_PRIVATE = FLAG, "true",
        "let webhooks go to private networks (not to loopback, link-local or ComfyUI itself)";
    WEBHOOK_TIMEOUT_S = seconds(0.01), "30",
        "longest attempt, seconds";
    WEBHOOK_SPOOL_DIR = PATH, "",
        "keeps webhooks that could not be delivered, and retries them for 24 hours";
    SYSTEM_WEBHOOK_URL = url(WEB), "",
        "receiver of system events";
    SYSTEM_WEBHOOK_EVENTS = LIST, "",
        "comma-separated event names, or all";
    SYSTEM_META as "SYSTEM_META_*" = TEXT, "",
        "metadata of events: SYSTEM_META_region=eu becomes region";
    SALAD as "SALAD_*" = TEXT, "",
        "set by SaladCloud: metadata of events, and the instance's deletion cost";
}
