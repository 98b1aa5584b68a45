//! The configuration: read once from the environment, checked completely, passed on in one small
//! struct per concern.
//!
//! Nothing outside this module reads the environment. [`variables::VARIABLES`] names and documents
//! every variable; README's table and `comfyui-api check` are made from it.

mod child_env;
mod env;
mod public_text;
mod reader;
mod secret;
mod sections;
mod shown;
pub mod variables;

pub use child_env::{withhold_from_comfyui, withhold_from_tool};
pub use env::{Env, ProcessEnv};
pub use public_text::{plain_text, plain_value, public_str, public_text, public_value};
pub use reader::{ConfigError, Reader};
pub use secret::{Secret, public, public_url};
pub use sections::{
    AmqpConfig, AmqpTlsConfig, AzureConfig, CacheConfig, ComfyConfig, ComfyInstance, EventsConfig,
    GatewayAddress, GatewayConfig, GuardConfig, HfConfig, HttpAuthHeader, InstanceConfig,
    LogConfig, LogFormat, ManifestConfig, McpConfig, MediaConfig, MessageLimit, PromptConfig,
    ProxyConfig, S3Config, ServerConfig, SigningKey, StateConfig, StorageConfig, ToolFilter,
    WarmupSource, WebhookConfig, WorkflowConfig,
};
pub use sections::{OtlpConfig, RemoteSampler, TelemetryConfig};
pub use shown::{Origin, ShownVariable, public_value_of};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP server.
    pub server: ServerConfig,
    /// Log level and form.
    pub log: LogConfig,
    /// The ComfyUI that is started or attached to.
    pub comfy: ComfyConfig,
    /// How prompts are treated.
    pub prompt: PromptConfig,
    /// Downloads, uploads, cache, credentials.
    pub storage: StorageConfig,
    /// What survives, and the Comfy API v2.
    pub state: StateConfig,
    /// Tools for agents.
    pub mcp: McpConfig,
    /// Conversion by ffmpeg.
    pub media: MediaConfig,
    /// Webhooks for prompts.
    pub webhook: WebhookConfig,
    /// System events and their metadata.
    pub events: EventsConfig,
    /// RabbitMQ; `None` when it is not configured.
    pub amqp: Option<AmqpConfig>,
    /// How RabbitMQ is met over TLS; read also where RabbitMQ is not configured.
    pub amqp_tls: AmqpTlsConfig,
    /// The gateway before a fleet; means something to `comfyui-api gateway` only.
    pub gateway: GatewayConfig,
    /// It is `comfyui-api gateway`: no ComfyUI here.
    pub is_gateway: bool,
    /// Endpoints made from files.
    pub workflow: WorkflowConfig,
    /// What is installed before ComfyUI starts.
    pub manifest: ManifestConfig,
    /// Traces and metrics to an OpenTelemetry collector.
    pub telemetry: TelemetryConfig,
    /// It is `comfyui-api demo`.
    pub demo: bool,
    /// Every variable as it may be shown.
    pub shown: Vec<ShownVariable>,
    /// What must not stand in any text that is shown.
    pub secrets: Vec<Secret>,
    /// What starts all the same, but probably not as it was meant. For the log and `check`.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks what `comfyui-api gateway` needs: a broker, and no ComfyUI.
    ///
    /// # Errors
    /// All problems found, not only the first.
    pub fn for_gateway(env: &dyn Env) -> Result<Self, ConfigError> {
        let mut config = Self::from_env(env)?;
        if config.amqp.is_none() {
            let message = "a gateway hands its jobs to a broker: set AMQP_URL (or AMQP_HOST)";
            return Err(ConfigError(vec![message.to_owned()]));
        }
        config.is_gateway = true;
        config.comfy.command.clear();
        // Nobody is to be asked there.
        (config.comfy.address, config.comfy.port) = ("127.0.0.1".to_owned(), 1);
        let mut instances: Vec<ComfyInstance> = config.comfy.instances.to_vec();
        instances.truncate(1);
        for instance in &mut instances {
            instance.command.clear();
            (instance.address, instance.port) = ("127.0.0.1".to_owned(), 1);
        }
        config.comfy.instances = instances.into();
        Ok(config)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// All problems found, not only the first.
    pub fn from_env(env: &dyn Env) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(env);
        let comfy = ComfyConfig::read(&mut reader);
        let server = ServerConfig::read(&mut reader);
        let amqp_tls = AmqpTlsConfig::read(&mut reader);
        let input_queue = AmqpConfig::input_queue(&mut reader);
        let mut config = Self {
            log: LogConfig::read(&mut reader),
            prompt: PromptConfig::read(&mut reader),
            storage: StorageConfig::read(&mut reader),
            state: StateConfig::read(&mut reader),
            mcp: McpConfig::read(&mut reader),
            media: MediaConfig::read(&mut reader),
            webhook: WebhookConfig::read(&mut reader),
            events: EventsConfig::read(&mut reader),
            amqp: AmqpConfig::read(&mut reader, &server, &amqp_tls, comfy.instances.len()),
            gateway: GatewayConfig::read(&mut reader, &server.host, &input_queue),
            is_gateway: false,
            workflow: WorkflowConfig::read(&mut reader),
            manifest: ManifestConfig::read(&mut reader),
            telemetry: TelemetryConfig::read(&mut reader),
            comfy,
            server,
            amqp_tls,
            demo: false,
            shown: shown::variables(env),
            secrets: shown::secrets(env),
            warnings: Vec::new(),
        };
        config.comfy.check_ports(&mut reader, config.server.port);
        let places = config.comfy.instances.iter();
        config.storage.guard.comfyui = places
            .map(|instance| (instance.address.clone(), instance.port))
            .collect();
        let (problems, warnings) = reader.into_findings();
        if problems.is_empty() {
            Ok(Self { warnings, ..config })
        } else {
            Err(ConfigError(problems))
        }
    }
}

#[cfg(test)]
mod tests;
