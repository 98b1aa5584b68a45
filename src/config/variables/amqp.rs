//! RabbitMQ: instances that take tasks, and the gateway.

use super::*;

variables! { "AMQP"
    AMQP_URL = url(&["amqp", "amqps"]).hidden(), "",
        "amqp:// or amqps:// URL of RabbitMQ; unset (with AMQP_HOST) = off";
    AMQP_HOST = TEXT, "",
        "host of RabbitMQ, instead of AMQP_URL";
    AMQP_PORT = port(1), "5672",
        "its port";
    AMQP_USER = TEXT, "guest",
        "user";
    AMQP_PASS = TEXT.hidden(), "",
        "password (guest)";
    AMQP_VHOST = TEXT, "/",
        "virtual host";
    AMQP_PROTOCOL = words(&["amqp", "amqps"]), "amqp",
        "amqp or amqps, with AMQP_HOST; port 5671 means amqps too";
    AMQP_TLS_CA_FILE = PATH, "",
        "PEM file of a private CA for amqps (or AMQP_CA_FILE)";
    AMQP_CA_FILE = PATH, "",
        "see AMQP_TLS_CA_FILE";
    AMQP_TLS_CERT_FILE = PATH, "",
        "PEM file of our certificate, for brokers that ask for one";
    AMQP_TLS_KEY_FILE = PATH, "",
        "PEM file of its key";
    AMQP_TLS_REJECT_UNAUTHORIZED = FLAG, "true",
        "false = take any certificate of the broker";
    AMQP_SERVERNAME = TEXT, "",
        "the name that the broker's certificate is for, when it is not the host (or AMQP_SNI)";
    AMQP_SNI = TEXT, "",
        "see AMQP_SERVERNAME";
    AMQP_EXCHANGE_TOPIC = TEXT, "runnode.comfyui.topic",
        "topic exchange for events";
    AMQP_QUEUE_INPUT = TEXT, "",
        "queue to take tasks from; unset = after INSTANCE_*";
    AMQP_PREFETCH = number(1.0, 65_535.0, "tasks"), "COMFYUI_INSTANCES",
        "tasks an instance holds";
    AMQP_MAX_ATTEMPTS = number(1.0, 1000.0, "deliveries"), "3",
        "deliveries of a task that fails by our fault before it is given up";
    AMQP_MAX_RESULT_MB = number(1.0, 4096.0, "MiB"), "64",
        "largest result carried in a message, MiB";
    AMQP_MAX_MESSAGE_MB = number(0.01, 512.0, "MiB"), "15; 120 when the broker says that it is \
                                                       RabbitMQ 3",
        "no message is larger, nor a result in one; RabbitMQ 4 refuses more than 16 MiB";
    GATEWAY_QUEUES = LIST, "q.gpu.20g, or after INSTANCE_*",
        "`comfyui-api gateway`: queues that clients may name, the first is the default";
    GATEWAY_URL = url(WEB), "our side of the broker's connection",
        "`comfyui-api gateway`: how instances reach this gateway; `none`: files travel in messages";
    GATEWAY_ID = TEXT, "made once",
        "`comfyui-api gateway`: names its queue for answers";
    AMQP_PUBLISH_ALL = FLAG, "false",
        "publish events of every prompt, not only of AMQP tasks";
    AMQP_PROGRESS_INTERVAL_MS = number(0.0, 3_600_000.0, "milliseconds"), "200",
        "least time between two progress events of a task";
    AMQP_PREVIEWS = FLAG, "false",
        "publish previews too";
    AMQP_REQUIRED = FLAG, "false",
        "`/ready` needs a broker connection";
    HEARTBEAT_ENABLED = FLAG.of_node(), "true",
        "publish heartbeats";
    HEARTBEAT_INTERVAL = number(10.0, 3_600_000.0, "milliseconds").of_node(), "5000",
        "milliseconds between heartbeats";
    INSTANCE_ID = TEXT, "",
        "name of this instance; unset = made from host name and time";
    INSTANCE_GPU_VRAM = TEXT, "20G",
        "20G, 40G or 70G: chooses the queue";
    INSTANCE_DEDICATED_ID = TEXT, "",
        "take tasks from q.instance.<id>";
    INSTANCE_WORKFLOW_ID = TEXT, "",
        "take tasks from q.workflow.<id>";
    INSTANCE_IS_FREE = FLAG.of_node(), "false",
        "take tasks from q.gpu.free";
    API_URL = TEXT, "http://localhost:PORT",
        "our address, for registration; unset = SYSTEM_META_host, if that is set";
    COMFY_PUBLIC_URL = TEXT, "",
        "ComfyUI's address, for registration";
    COMFY_PUBLIC_WS_URL = TEXT, "",
        "ComfyUI's websocket address, for registration";
    GPU_MEMORY = TEXT, "",
        "GPU memory, for registration; unset = measured";
    SUPPORTED_MODELS = LIST, "",
        "comma-separated models, for registration";
}
