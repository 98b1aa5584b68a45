//! The names of attributes: those of the semantic conventions 1.44 (HTTP is stable; messaging, MCP
//! and generative AI are in development and may change), and our own. The only place that has them.

#![expect(missing_docs, reason = "each says in its value what it is")]

pub const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

pub const ERROR_TYPE: &str = "error.type";
pub const EXCEPTION: &str = "exception";
pub const EXCEPTION_TYPE: &str = "exception.type";
pub const EXCEPTION_MESSAGE: &str = "exception.message";

pub const HTTP_METHOD: &str = "http.request.method";
pub const HTTP_METHOD_ORIGINAL: &str = "http.request.method_original";
pub const HTTP_ROUTE: &str = "http.route";
pub const HTTP_STATUS: &str = "http.response.status_code";
pub const HTTP_RESEND_COUNT: &str = "http.request.resend_count";
pub const URL_PATH: &str = "url.path";
pub const URL_SCHEME: &str = "url.scheme";
pub const URL_FULL: &str = "url.full";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const USER_AGENT: &str = "user_agent.original";
pub const PROTOCOL_VERSION: &str = "network.protocol.version";
pub const NETWORK_TRANSPORT: &str = "network.transport";

pub const MESSAGING_SYSTEM: &str = "messaging.system";
pub const MESSAGING_OPERATION: &str = "messaging.operation.name";
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
pub const RABBITMQ_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";

pub const MCP_METHOD: &str = "mcp.method.name";
pub const MCP_VERSION: &str = "mcp.protocol.version";
pub const JSONRPC_ID: &str = "jsonrpc.request.id";

pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
pub const GEN_AI_OUTPUT: &str = "gen_ai.output.type";
pub const GEN_AI_MODEL: &str = "gen_ai.request.model";
pub const GEN_AI_TOOL: &str = "gen_ai.tool.name";

pub const PROMPT_ID: &str = "comfyui.prompt.id";
pub const SOURCE: &str = "comfyui.source";
pub const WORKFLOW: &str = "comfyui.workflow";
pub const OUTPUTS: &str = "comfyui.outputs";
pub const NODE_ID: &str = "comfyui.node.id";
pub const NODE_CLASS: &str = "comfyui.node.class";
pub const NODE_CACHED: &str = "comfyui.node.cached";
pub const BYTES: &str = "comfyui.bytes";
pub const CACHE_HIT: &str = "comfyui.cache.hit";
pub const WEBHOOK_ID: &str = "comfyui.webhook.id";
pub const REDELIVERED: &str = "comfyui.amqp.redelivered";
