//! One struct per concern, each reading its own variables.

mod amqp;
mod cloud;
mod comfy;
mod gateway;
mod gpus;
mod instances;
mod machine;
mod mcp;
mod prompt;
mod server;
mod state;
mod storage;
mod telemetry;
mod webhook;

pub use amqp::{AmqpConfig, AmqpTlsConfig, InstanceConfig, MessageLimit};
pub use cloud::{AzureConfig, HfConfig, S3Config};
pub use comfy::{ComfyConfig, WarmupSource};
pub use gateway::{GatewayAddress, GatewayConfig};
pub use instances::ComfyInstance;
pub use machine::{ManifestConfig, WorkflowConfig};
pub use mcp::{McpConfig, ToolFilter};
pub use prompt::{MediaConfig, PromptConfig};
pub use server::{LogConfig, LogFormat, ServerConfig};
pub use state::StateConfig;
pub use storage::{CacheConfig, GuardConfig, HttpAuthHeader, ProxyConfig, StorageConfig};
pub use telemetry::{OtlpConfig, RemoteSampler, TelemetryConfig};
pub use webhook::{EventsConfig, SigningKey, WebhookConfig};

/// Bytes in a MiB, the unit of sizes in variables.
const MIB: u64 = 1024 * 1024;

/// ComfyUI runs in a directory of its own, so what it is told must not depend on ours.
fn absolute(path: std::path::PathBuf) -> std::path::PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
