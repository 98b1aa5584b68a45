//! Every variable by name, default and meaning: the one list that README's table and `comfyui-api check` are made from.

use super::child_env;

/// The names of system events (events.md), in the order in which they are listed to users.
pub const EVENT_NAMES: &[&str] = &[
    "status",
    "progress",
    "progress_state",
    "executing",
    "execution_start",
    "execution_cached",
    "executed",
    "execution_success",
    "execution_interrupted",
    "execution_error",
    "logs",
    "feature_flags",
    "binary_preview",
    "file_downloaded",
    "file_uploaded",
    "file_deleted",
];

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name; a `*` at the end stands for a family of names.
    pub name: &'static str,
    /// What holds when it is unset or empty.
    pub default: &'static str,
    /// What it does, in one line for the README.
    pub about: &'static str,
    /// Its value must not be shown.
    pub secret: bool,
    /// The Node server has it too: values are read as JavaScript would have read them (drop-in.md, D14).
    pub node: bool,
}

const fn plain(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable {
        name,
        default,
        about,
        secret: false,
        node: false,
    }
}

/// A number, boolean or word that the Node server reads leniently.
const fn node(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable {
        node: true,
        ..plain(name, default, about)
    }
}

const fn hidden(name: &'static str, about: &'static str) -> Variable {
    Variable {
        name,
        default: "",
        about,
        secret: true,
        node: false,
    }
}

/// Whether code that is not ours must not see this variable: secrets, and addresses that hold some.
pub fn is_secret(name: &str) -> bool {
    child_env::is_own(name) || is_hidden(name)
}

/// Whether the value of this variable is never shown.
pub(super) fn is_hidden(name: &str) -> bool {
    let mut all = VARIABLES.iter().flat_map(|(_, variables)| *variables);
    (name.starts_with("OTEL_") && name.ends_with("_HEADERS"))
        || all.any(|variable| variable.secret && variable.name.eq_ignore_ascii_case(name))
}

/// Whether the Node server reads this variable, and leniently.
pub(super) fn is_node_variable(name: &str) -> bool {
    VARIABLES
        .iter()
        .flat_map(|(_, group)| *group)
        .any(|variable| variable.node && variable.name == name)
}

/// All variables, grouped as the README shows them.
pub const VARIABLES: &[(&str, &[Variable])] = &[
    (
        "Server",
        &[
            plain("HOST", "::", "address to listen on (`::` is IPv4 and IPv6)"),
            plain("PORT", "3000", "port to listen on"),
            node("MAX_BODY_SIZE_MB", "100", "largest request body, MiB"),
            node(
                "MAX_QUEUE_DEPTH",
                "0",
                "`/ready` answers 503 when ComfyUI's queue is this long; 0 = no limit",
            ),
            hidden(
                "API_KEYS",
                "comma-separated keys that clients must present; unset = open",
            ),
            plain("METRICS_REQUIRE_KEY", "false", "`/metrics` needs a key too"),
            plain(
                "CORS_ALLOWED_ORIGINS",
                "",
                "comma-separated browser origins that may call the API, or `*`",
            ),
            plain(
                "ALLOWED_HOSTS",
                "",
                "comma-separated names by which browsers on this machine may reach the server, beside localhost",
            ),
            plain(
                "SHUTDOWN_GRACE_S",
                "30",
                "seconds that prompts in flight get to finish after SIGTERM",
            ),
            plain("CONSOLE", "true", "the web console at `/console/`"),
            plain(
                "CONSOLE_DIR",
                "",
                "folder that the console's files are read from at each request, instead of those in the binary",
            ),
            node(
                "LOG_LEVEL",
                "info",
                "trace, debug, info, warn, error or fatal",
            ),
            plain(
                "LOG_FORMAT",
                "auto",
                "json or pretty; auto = pretty on a terminal, JSON otherwise",
            ),
        ],
    ),
    (
        "ComfyUI",
        &[
            plain(
                "CMD",
                "init.sh",
                "command that starts ComfyUI; set but empty = attach to a running one",
            ),
            plain(
                "BASE",
                "",
                "`ai-dock` loads that image's environment before CMD",
            ),
            plain("COMFY_HOME", "/opt/ComfyUI", "ComfyUI's directory"),
            plain("DIRECT_ADDRESS", "127.0.0.1", "address ComfyUI listens on"),
            plain("COMFYUI_PORT_HOST", "8188", "port ComfyUI listens on"),
            plain(
                "COMFYUI_INSTANCES",
                "1",
                "how many ComfyUI; auto = one per set of COMFYUI_DEVICES, else per GPU that nvidia-smi shows",
            ),
            plain(
                "COMFYUI_DEVICES",
                "",
                "GPUs of each ComfyUI, `;` between them: `0;1;2,3`; unset with several = one GPU each",
            ),
            plain(
                "COMFYUI_INSTANCE_ARGS",
                "--port {port} --temp-directory {temp} --database-url sqlite:///:memory:",
                "added to CMD when there are several ComfyUI and it does not hold {port}; {index} {port} {device} {temp} are replaced",
            ),
            plain(
                "COMFYUI_URLS",
                "",
                "several running ComfyUI to attach to, comma-separated; CMD empty",
            ),
            plain(
                "MODEL_SWITCH_JOBS",
                "2",
                "what a change of models costs when a ComfyUI is chosen, in waiting jobs; 0 = models do not matter",
            ),
            plain("INPUT_DIR", "COMFY_HOME/input", "ComfyUI's input directory"),
            plain(
                "OUTPUT_DIR",
                "COMFY_HOME/output",
                "ComfyUI's output directory",
            ),
            plain(
                "MODEL_DIR",
                "COMFY_HOME/models",
                "ComfyUI's model directory",
            ),
            node(
                "ALWAYS_RESTART_COMFYUI",
                "false; true with several ComfyUI",
                "restart ComfyUI when it exits, instead of exiting too",
            ),
            node(
                "STARTUP_CHECK_INTERVAL_S",
                "1",
                "seconds between two looks whether ComfyUI is up",
            ),
            node("STARTUP_CHECK_MAX_TRIES", "20", "looks before giving up"),
            plain(
                "COMFYUI_HANG_TIMEOUT_S",
                "0",
                "restart a ComfyUI that does not answer, or does not work, for so long; 0 = off",
            ),
            plain(
                "COMFYUI_PASS_ENV",
                "",
                "comma-separated variables to pass to ComfyUI and tools although they are the server's own secrets; `*` at an end stands for the rest",
            ),
            plain(
                "WS_IDLE_TIMEOUT_S",
                "30",
                "silence on ComfyUI's websocket before it is replaced",
            ),
            plain(
                "WARMUP_PROMPT_FILE",
                "",
                "prompt to run before the server is ready",
            ),
            plain("WARMUP_PROMPT_URL", "", "the same from a URL"),
            plain(
                "MANIFEST",
                "",
                "manifest file (.json, .yml, .yaml): packages, custom nodes, models",
            ),
            hidden("MANIFEST_JSON", "the manifest itself, as JSON"),
        ],
    ),
    (
        "Prompts",
        &[
            node(
                "PREPEND_FILENAMES",
                "true",
                "keep the caller's filename_prefix behind the id; false = the id alone",
            ),
            plain(
                "CANCEL_ON_DISCONNECT",
                "false",
                "cancel a sync or streaming prompt when its client goes away",
            ),
            plain(
                "PROMPT_TIMEOUT_S",
                "0",
                "seconds that ComfyUI may run a prompt before it is cancelled; 0 = no limit",
            ),
            plain(
                "ALLOWED_INPUT_PATHS",
                "",
                "comma-separated directories whose files graphs may name by path",
            ),
            plain(
                "MAX_ARCHIVE_FILES",
                "10000",
                "most files and folders an input archive may hold",
            ),
            plain(
                "MAX_ARCHIVE_SIZE_MB",
                "4096",
                "most MiB an input archive may unpack to",
            ),
            plain(
                "FFMPEG_PATH",
                "ffmpeg",
                "the ffmpeg command for video and audio conversion",
            ),
            plain("FFMPEG_TIMEOUT_S", "600", "longest conversion, seconds"),
        ],
    ),
    (
        "Comfy API v2",
        &[
            plain(
                "V2_ENABLED",
                "true",
                "serve `/api/v2`; false = 404, but for its assets",
            ),
            plain(
                "STATE_DIR",
                "$HOME/.local/state/comfyui-api",
                "jobs, assets and idempotency keys that survive a restart; for this server alone",
            ),
            plain(
                "V2_RETENTION_HOURS",
                "24",
                "how long a job and its outputs are kept after its end (fractions allowed)",
            ),
            plain(
                "V2_ASSET_RETENTION_HOURS",
                "168",
                "how long an uploaded asset is kept after its last use",
            ),
            plain(
                "V2_STORE_MAX_GB",
                "20",
                "room for assets and records (GiB, fractions allowed); what was used least goes first",
            ),
            plain(
                "V2_MAX_JOBS",
                "100000",
                "most records of jobs; the oldest ended go first",
            ),
            plain("V2_MAX_UPLOAD_MB", "2048", "largest uploaded asset, MiB"),
            plain(
                "V2_LONG_POLL_S",
                "5",
                "how long the poll of an unfinished job waits for its end; 0 = not at all",
            ),
            plain(
                "V2_MAX_STREAMS",
                "0",
                "most event streams at once; 0 = no limit",
            ),
            plain(
                "V2_MAX_ATTEMPTS",
                "2",
                "attempts at a job whose ComfyUI dies while it runs",
            ),
            plain(
                "V2_QUEUE_TIMEOUT_S",
                "0",
                "a job that waits longer expires; 0 = never",
            ),
            plain(
                "KEEP_RUNS",
                "false",
                "keep all runs over HTTP in the store, as if each had `keep`",
            ),
            plain(
                "HISTORY_RUNS",
                "200",
                "how many runs of all kinds `GET /history` remembers without their files; 0 = none",
            ),
            hidden(
                "V2_DEFAULTS",
                "JSON: delivery fields of `POST /prompt` for every v2 job, such as `{\"convert_output\": {\"format\": \"webp\"}}`",
            ),
        ],
    ),
    (
        "Tools for agents (MCP)",
        &[
            plain("MCP", "true", "serve `/mcp`; false = 404"),
            plain(
                "MCP_TOOLS",
                "*",
                "comma-separated patterns of the tools that are offered; `-pattern` removes, such as `*,-run_graph`",
            ),
            plain(
                "MCP_WAIT_S",
                "45",
                "how long a tool waits for its job before it answers that the job goes on, seconds",
            ),
            plain(
                "MCP_PREVIEW_PX",
                "1024",
                "longer side of the previews that a model sees, pixels",
            ),
            hidden(
                "COMFYUI_API_KEY",
                "key that `comfyui-api mcp` presents to the server it forwards to",
            ),
        ],
    ),
    (
        "Storage",
        &[
            plain("CACHE_DIR", "$HOME/.cache/comfyui-api", "downloaded files"),
            node(
                "LRU_CACHE_SIZE_GB",
                "0",
                "size the cache is kept to (GiB, fractions allowed); 0 = no limit",
            ),
            node("MAX_CONCURRENT_DOWNLOADS", "10", "downloads at once"),
            node("MAX_CONCURRENT_UPLOADS", "10", "uploads at once"),
            plain("DOWNLOAD_CONNECTIONS", "4", "connections per large file"),
            plain(
                "HTTP_AUTH_HEADER_NAME",
                "",
                "header added to storage requests over HTTP",
            ),
            hidden("HTTP_AUTH_HEADER_VALUE", "its value"),
            plain(
                "HTTP_AUTH_ALLOWED_ORIGINS",
                "",
                "comma-separated origins that get that header; unset = every host that a request names",
            ),
            plain(
                "HTTP_TRUSTED_ORIGINS",
                "",
                "comma-separated origins that may be reached although they are private",
            ),
            plain(
                "ALLOW_PRIVATE_NETWORKS",
                "false",
                "let URLs from clients reach private addresses",
            ),
            hidden(
                "HTTP_PROXY",
                "proxy for http:// and https:// targets; never used for ComfyUI",
            ),
            hidden(
                "HTTPS_PROXY",
                "proxy for https:// targets; unset = HTTP_PROXY",
            ),
            plain("NO_PROXY", "", "hosts reached without a proxy"),
            plain(
                "SIGNED_URL_EXPIRY_S",
                "3600",
                "validity of signed URLs, seconds",
            ),
            plain("AWS_REGION", "", "S3 region (or AWS_DEFAULT_REGION)"),
            plain(
                "AWS_DEFAULT_REGION",
                "",
                "S3 region when AWS_REGION is unset",
            ),
            hidden(
                "AWS_ACCESS_KEY_ID",
                "S3 key; profiles, IRSA and instance metadata work too",
            ),
            hidden("AWS_SECRET_ACCESS_KEY", "S3 secret"),
            hidden("AWS_SESSION_TOKEN", "S3 session token"),
            plain(
                "AWS_ENDPOINT_URL_S3",
                "",
                "another S3 service, before AWS_ENDPOINT_URL",
            ),
            plain(
                "AWS_ENDPOINT_URL",
                "",
                "another S3 service (or AWS_ENDPOINT, S3_ENDPOINT, or endpoint_url of the profile)",
            ),
            plain("AWS_ENDPOINT", "", "see AWS_ENDPOINT_URL"),
            plain("S3_ENDPOINT", "", "see AWS_ENDPOINT_URL"),
            plain(
                "S3_FORCE_PATH_STYLE",
                "auto",
                "true or false; auto = when an endpoint is set",
            ),
            hidden(
                "AZURE_STORAGE_CONNECTION_STRING",
                "Azure Blob Storage, all in one",
            ),
            plain("AZURE_STORAGE_ACCOUNT", "", "Azure account name"),
            hidden("AZURE_STORAGE_KEY", "Azure account key"),
            hidden(
                "AZURE_STORAGE_SAS_TOKEN",
                "Azure SAS token instead of a key",
            ),
            plain("AZURE_TENANT_ID", "", "workload identity, set by AKS"),
            plain(
                "AZURE_CLIENT_ID",
                "",
                "workload identity, or the managed identity to use",
            ),
            plain(
                "AZURE_FEDERATED_TOKEN_FILE",
                "",
                "workload identity, set by AKS",
            ),
            plain("AZURE_AUTHORITY_HOST", "", "workload identity, set by AKS"),
            hidden("HF_TOKEN", "Hugging Face token"),
            plain("HF_ENDPOINT", "https://huggingface.co", "another hub"),
        ],
    ),
    (
        "Webhooks and events",
        &[
            hidden(
                "WEBHOOK_SECRET",
                "key(s) that sign webhooks: base64, `whsec_` optional, separated by spaces; any other text as the Node server reads it",
            ),
            node(
                "PROMPT_WEBHOOK_RETRIES",
                "3",
                "retries of a webhook after its first attempt",
            ),
            plain(
                "WEBHOOK_ALLOW_PRIVATE",
                "true",
                "let webhooks go to private networks (not to loopback, link-local or ComfyUI itself)",
            ),
            plain("WEBHOOK_TIMEOUT_S", "30", "longest attempt, seconds"),
            plain(
                "WEBHOOK_SPOOL_DIR",
                "",
                "keeps webhooks that could not be delivered, and retries them for 24 hours",
            ),
            plain("SYSTEM_WEBHOOK_URL", "", "receiver of system events"),
            plain(
                "SYSTEM_WEBHOOK_EVENTS",
                "",
                "comma-separated event names, or all",
            ),
            plain(
                "SYSTEM_META_*",
                "",
                "metadata of events: SYSTEM_META_region=eu becomes region",
            ),
            plain(
                "SALAD_*",
                "",
                "set by SaladCloud: metadata of events, and the instance's deletion cost",
            ),
        ],
    ),
    (
        "AMQP",
        &[
            hidden(
                "AMQP_URL",
                "amqp:// or amqps:// URL of RabbitMQ; unset (with AMQP_HOST) = off",
            ),
            plain("AMQP_HOST", "", "host of RabbitMQ, instead of AMQP_URL"),
            plain("AMQP_PORT", "5672", "its port"),
            plain("AMQP_USER", "guest", "user"),
            hidden("AMQP_PASS", "password (guest)"),
            plain("AMQP_VHOST", "/", "virtual host"),
            plain(
                "AMQP_PROTOCOL",
                "amqp",
                "amqp or amqps, with AMQP_HOST; port 5671 means amqps too",
            ),
            plain(
                "AMQP_TLS_CA_FILE",
                "",
                "PEM file of a private CA for amqps (or AMQP_CA_FILE)",
            ),
            plain("AMQP_CA_FILE", "", "see AMQP_TLS_CA_FILE"),
            plain(
                "AMQP_TLS_CERT_FILE",
                "",
                "PEM file of our certificate, for brokers that ask for one",
            ),
            plain("AMQP_TLS_KEY_FILE", "", "PEM file of its key"),
            plain(
                "AMQP_TLS_REJECT_UNAUTHORIZED",
                "true",
                "false = take any certificate of the broker",
            ),
            plain(
                "AMQP_SERVERNAME",
                "",
                "the name that the broker's certificate is for, when it is not the host (or AMQP_SNI)",
            ),
            plain("AMQP_SNI", "", "see AMQP_SERVERNAME"),
            plain(
                "AMQP_EXCHANGE_TOPIC",
                "runnode.comfyui.topic",
                "topic exchange for events",
            ),
            plain(
                "AMQP_QUEUE_INPUT",
                "",
                "queue to take tasks from; unset = after INSTANCE_*",
            ),
            plain(
                "AMQP_PREFETCH",
                "COMFYUI_INSTANCES",
                "tasks an instance holds",
            ),
            plain(
                "AMQP_MAX_ATTEMPTS",
                "3",
                "deliveries of a task that fails by our fault before it is given up",
            ),
            plain(
                "AMQP_MAX_RESULT_MB",
                "64",
                "largest result carried in a message, MiB",
            ),
            plain(
                "AMQP_MAX_MESSAGE_MB",
                "15; 120 when the broker says that it is RabbitMQ 3",
                "no message is larger, nor a result in one; RabbitMQ 4 refuses more than 16 MiB",
            ),
            plain(
                "GATEWAY_QUEUES",
                "q.gpu.20g, or after INSTANCE_*",
                "`comfyui-api gateway`: queues that clients may name, the first is the default",
            ),
            plain(
                "GATEWAY_URL",
                "our side of the broker's connection",
                "`comfyui-api gateway`: how instances reach this gateway; `none`: files travel in messages",
            ),
            plain(
                "GATEWAY_ID",
                "made once",
                "`comfyui-api gateway`: names its queue for answers",
            ),
            plain(
                "AMQP_PUBLISH_ALL",
                "false",
                "publish events of every prompt, not only of AMQP tasks",
            ),
            plain(
                "AMQP_PROGRESS_INTERVAL_MS",
                "200",
                "least time between two progress events of a task",
            ),
            plain("AMQP_PREVIEWS", "false", "publish previews too"),
            plain(
                "AMQP_REQUIRED",
                "false",
                "`/ready` needs a broker connection",
            ),
            node("HEARTBEAT_ENABLED", "true", "publish heartbeats"),
            node(
                "HEARTBEAT_INTERVAL",
                "5000",
                "milliseconds between heartbeats",
            ),
            plain(
                "INSTANCE_ID",
                "",
                "name of this instance; unset = made from host name and time",
            ),
            plain(
                "INSTANCE_GPU_VRAM",
                "20G",
                "20G, 40G or 70G: chooses the queue",
            ),
            plain(
                "INSTANCE_DEDICATED_ID",
                "",
                "take tasks from q.instance.<id>",
            ),
            plain(
                "INSTANCE_WORKFLOW_ID",
                "",
                "take tasks from q.workflow.<id>",
            ),
            node("INSTANCE_IS_FREE", "false", "take tasks from q.gpu.free"),
            plain(
                "API_URL",
                "http://localhost:PORT",
                "our address, for registration; unset = SYSTEM_META_host, if that is set",
            ),
            plain(
                "COMFY_PUBLIC_URL",
                "",
                "ComfyUI's address, for registration",
            ),
            plain(
                "COMFY_PUBLIC_WS_URL",
                "",
                "ComfyUI's websocket address, for registration",
            ),
            plain(
                "GPU_MEMORY",
                "",
                "GPU memory, for registration; unset = measured",
            ),
            plain(
                "SUPPORTED_MODELS",
                "",
                "comma-separated models, for registration",
            ),
        ],
    ),
    (
        "OpenTelemetry",
        &[
            plain(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "",
                "base address of a collector (OTLP over HTTP); unset = nothing is sent",
            ),
            plain(
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "",
                "whole address for traces",
            ),
            plain(
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                "",
                "whole address for metrics",
            ),
            hidden(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "headers of every request: name=value,...",
            ),
            hidden("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "those for traces"),
            hidden("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "those for metrics"),
            plain(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/protobuf",
                "there is no other",
            ),
            plain(
                "OTEL_EXPORTER_OTLP_TIMEOUT",
                "10000",
                "milliseconds for a request with its repetitions",
            ),
            plain("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "none or gzip"),
            plain("OTEL_TRACES_EXPORTER", "otlp", "otlp or none"),
            plain("OTEL_METRICS_EXPORTER", "none", "otlp or none"),
            plain(
                "OTEL_METRIC_EXPORT_INTERVAL",
                "60000",
                "milliseconds between two pushes of metrics",
            ),
            plain(
                "OTEL_SERVICE_NAME",
                "comfyui-api",
                "service.name of everything that is sent",
            ),
            plain(
                "OTEL_RESOURCE_ATTRIBUTES",
                "",
                "more about this server: key=value,...",
            ),
            plain(
                "OTEL_TRACES_SAMPLER",
                "parentbased_always_on",
                "which traces are recorded: always_on, always_off, traceidratio, jaeger_remote, or parentbased_ and one of these; xray is not spoken and means the default",
            ),
            plain(
                "OTEL_TRACES_SAMPLER_ARG",
                "1",
                "the share of all traces for traceidratio, 0 to 1; for jaeger_remote endpoint=...,pollingIntervalMs=...,initialSamplingRate=...",
            ),
            plain(
                "OTEL_BSP_MAX_QUEUE_SIZE",
                "2048",
                "spans that may wait; more are dropped and counted",
            ),
            plain(
                "OTEL_BSP_SCHEDULE_DELAY",
                "5000",
                "longest wait of a span, milliseconds",
            ),
            plain(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                "512",
                "most spans of a request",
            ),
            plain(
                "OTEL_SDK_DISABLED",
                "false",
                "true = off, whatever else is set",
            ),
        ],
    ),
    (
        "Workflow endpoints",
        &[
            plain(
                "WORKFLOW_DIR",
                "/workflows",
                "files that become POST /workflow/... endpoints",
            ),
            plain("WORKFLOW_WATCH", "false", "reload changed files"),
            node(
                "MARKDOWN_SCHEMA_DESCRIPTIONS",
                "true",
                "describe inputs as a markdown table in /docs",
            ),
        ],
    ),
];
