//! RabbitMQ, and what an instance says of itself.

use std::path::PathBuf;
use std::time::Duration;

use super::{MIB, ServerConfig};
use crate::config::variables::amqp::*;
use crate::config::{Reader, Secret};

/// The directory of notes in `CACHE_DIR`.
const NOTES: &str = ".tasks";
/// Where brokers speak TLS.
const TLS_PORT: u16 = 5671;

/// What an instance says of itself when it registers (amqp.md).
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// `INSTANCE_ID`; unset means `comfyui-api-<hostname>-<start ms>`.
    pub id: Option<String>,
    /// `INSTANCE_DEDICATED_ID`.
    pub dedicated_id: Option<String>,
    /// `INSTANCE_WORKFLOW_ID`.
    pub workflow_id: Option<String>,
    /// `INSTANCE_IS_FREE`.
    pub is_free: bool,
    /// `INSTANCE_GPU_VRAM`.
    pub gpu_vram: String,
    /// `API_URL`, else `SYSTEM_META_host`, else `http://localhost:<PORT>`.
    pub api_url: String,
    /// `COMFY_PUBLIC_URL`; empty when unknown.
    pub public_url: String,
    /// `COMFY_PUBLIC_WS_URL`; empty when unknown.
    pub public_ws_url: String,
    /// `GPU_MEMORY`.
    pub gpu_memory: Option<String>,
    /// `SUPPORTED_MODELS`.
    pub supported_models: Vec<String>,
}

/// How the broker's identity is checked, and ours shown (drop-in.md, D19). Nothing of it matters
/// without TLS.
#[derive(Debug, Clone, Default)]
pub struct AmqpTlsConfig {
    /// `AMQP_TLS_CA_FILE`, else `AMQP_CA_FILE`.
    pub ca_file: Option<PathBuf>,
    /// `AMQP_TLS_CERT_FILE` and `AMQP_TLS_KEY_FILE`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `AMQP_TLS_REJECT_UNAUTHORIZED=false`.
    pub any_certificate: bool,
    /// `AMQP_SERVERNAME`, else `AMQP_SNI`, else the host.
    pub server_name: Option<String>,
}

impl AmqpTlsConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let identity = match (r.path(&AMQP_TLS_CERT_FILE), r.path(&AMQP_TLS_KEY_FILE)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                r.problem(
                    "AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE only work together: set both or \
                     neither",
                );
                None
            }
        };
        let second = r.path(&AMQP_CA_FILE);
        let sni = r.text(&AMQP_SNI);
        let server_name = r.text(&AMQP_SERVERNAME).or(sni);
        if let Some(name) = &server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            r.problem("AMQP_SERVERNAME (or AMQP_SNI) is neither a host name nor an address");
        }
        Self {
            ca_file: r.path(&AMQP_TLS_CA_FILE).or(second),
            identity,
            any_certificate: !r.flag(&AMQP_TLS_REJECT_UNAUTHORIZED),
            server_name,
        }
    }
}

/// `AMQP_MAX_MESSAGE_MB` in bytes; unset it goes by the broker.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimit(Option<usize>);

/// RabbitMQ 4 refuses more than 16 MiB and closes the channel; before that it was 128 MiB.
const SINCE_4: u64 = 15;
const BEFORE_4: u64 = 120;

impl MessageLimit {
    fn read(r: &mut Reader) -> Self {
        let set = r.text(&AMQP_MAX_MESSAGE_MB).is_some();
        let limit = r.number_or(&AMQP_MAX_MESSAGE_MB, SINCE_4 as f64);
        Self(set.then_some((limit * MIB as f64) as usize))
    }

    /// The limit in bytes where it is set.
    pub fn fixed(&self) -> Option<usize> {
        self.0
    }

    /// The limit in bytes with a broker of this version.
    pub fn with_version(&self, version: Option<&str>) -> usize {
        let old = version.is_some_and(|version| version.starts_with("3."));
        let default = if old { BEFORE_4 } else { SINCE_4 } * MIB;
        self.0
            .unwrap_or_else(|| usize::try_from(default).unwrap_or(usize::MAX))
    }
}

/// RabbitMQ.
#[derive(Debug, Clone)]
pub struct AmqpConfig {
    /// The whole URI, made from `AMQP_HOST` and its companions when `AMQP_URL` is unset. Holds the
    /// password.
    pub uri: Secret,
    /// For `amqps://`.
    pub tls: AmqpTlsConfig,
    /// `AMQP_EXCHANGE_TOPIC`.
    pub exchange: String,
    /// The input queue after amqp.md's rules.
    pub queue: String,
    /// `AMQP_PREFETCH`.
    pub prefetch: u16,
    /// `AMQP_MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// `AMQP_MAX_RESULT_MB` in bytes.
    pub max_result_bytes: u64,
    /// `AMQP_MAX_MESSAGE_MB`.
    pub max_message_bytes: MessageLimit,
    /// `MAX_BODY_SIZE_MB` in bytes: it holds for tasks too.
    pub max_body_bytes: usize,
    /// Where notes about tasks in work survive a kill: below `CACHE_DIR`.
    pub notes_dir: Option<PathBuf>,
    /// `AMQP_PUBLISH_ALL`.
    pub publish_all: bool,
    /// `AMQP_PROGRESS_INTERVAL_MS`.
    pub progress_interval: Duration,
    /// `AMQP_PREVIEWS`.
    pub previews: bool,
    /// `AMQP_REQUIRED`.
    pub required: bool,
    /// `HEARTBEAT_INTERVAL`; `None` when `HEARTBEAT_ENABLED=false`.
    pub heartbeat: Option<Duration>,
    /// What the instance says of itself.
    pub instance: InstanceConfig,
}

impl InstanceConfig {
    fn read(r: &mut Reader, port: u16) -> Self {
        Self {
            id: r.text(&INSTANCE_ID),
            dedicated_id: r.text(&INSTANCE_DEDICATED_ID),
            workflow_id: r.text(&INSTANCE_WORKFLOW_ID),
            is_free: r.flag(&INSTANCE_IS_FREE),
            gpu_vram: r.text_or(&INSTANCE_GPU_VRAM),
            api_url: r
                .text(&API_URL)
                .or_else(|| r.foreign("SYSTEM_META_host"))
                .unwrap_or_else(|| format!("http://localhost:{port}")),
            public_url: r.text_or(&COMFY_PUBLIC_URL),
            public_ws_url: r.text_or(&COMFY_PUBLIC_WS_URL),
            gpu_memory: r.text(&GPU_MEMORY),
            supported_models: r.list(&SUPPORTED_MODELS),
        }
    }
}

/// The address that `AMQP_HOST` and its companions make, where it is set.
fn uri_from_parts(r: &mut Reader) -> Option<Secret> {
    let host = r.text(&AMQP_HOST);
    let secure = r.one_of(&AMQP_PROTOCOL) == "amqps";
    let amqp_port = r.port(&AMQP_PORT, host.is_some());
    let amqp_port = match r.text(&AMQP_PORT) {
        None if secure => TLS_PORT,
        _ => amqp_port,
    };
    let encode = |text: String| {
        percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    host.map(|host| {
        let (user, pass, vhost) = (
            r.text_or(&AMQP_USER),
            r.text(&AMQP_PASS).unwrap_or_else(|| "guest".to_owned()),
            r.text_or(&AMQP_VHOST),
        );
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host
        };
        let protocol = if secure || amqp_port == TLS_PORT {
            "amqps"
        } else {
            "amqp"
        };
        Secret::new(format!(
            "{protocol}://{}:{}@{host}:{amqp_port}/{}",
            encode(user),
            encode(pass),
            encode(vhost)
        ))
    })
}

impl AmqpConfig {
    /// `None` when neither `AMQP_URL` nor `AMQP_HOST` is set. The other variables are checked all
    /// the same. `comfyuis` is how many there are: each can work on a task.
    pub(in crate::config) fn read(
        r: &mut Reader,
        server: &ServerConfig,
        tls: &AmqpTlsConfig,
        comfyuis: usize,
    ) -> Option<Self> {
        let port = server.port;
        let url = r
            .url(&AMQP_URL)
            .map(|_| r.secret(&AMQP_URL).unwrap_or_default());
        let from_parts = uri_from_parts(r);
        let instance = InstanceConfig::read(r, port);
        let queue = Self::input_queue(r);
        let heartbeat_enabled = r.flag(&HEARTBEAT_ENABLED);
        let heartbeat_interval = r.milliseconds(&HEARTBEAT_INTERVAL);
        let config = Self {
            uri: url.or(from_parts).unwrap_or_default(),
            tls: tls.clone(),
            exchange: r.text_or(&AMQP_EXCHANGE_TOPIC),
            queue,
            prefetch: r.number_or(&AMQP_PREFETCH, u16::try_from(comfyuis).unwrap_or(u16::MAX)),
            max_attempts: r.number(&AMQP_MAX_ATTEMPTS),
            max_result_bytes: r.number::<u64>(&AMQP_MAX_RESULT_MB) * MIB,
            max_message_bytes: MessageLimit::read(r),
            max_body_bytes: server.max_body_bytes,
            notes_dir: Some(super::storage::cache_dir(r).join(NOTES)),
            publish_all: r.flag(&AMQP_PUBLISH_ALL),
            progress_interval: r.milliseconds(&AMQP_PROGRESS_INTERVAL_MS),
            previews: r.flag(&AMQP_PREVIEWS),
            required: r.flag(&AMQP_REQUIRED),
            heartbeat: heartbeat_enabled.then_some(heartbeat_interval),
            instance,
        };
        (!config.uri.expose().is_empty()).then_some(config)
    }
}

impl AmqpConfig {
    /// The input queue after amqp.md's rules, whether or not there is a broker.
    pub(in crate::config) fn input_queue(r: &mut Reader) -> String {
        let of_instance = if let Some(id) = r.text(&INSTANCE_DEDICATED_ID) {
            format!("q.instance.{id}")
        } else if let Some(id) = r.text(&INSTANCE_WORKFLOW_ID) {
            format!("q.workflow.{id}")
        } else if r.flag(&INSTANCE_IS_FREE) {
            "q.gpu.free".to_owned()
        } else {
            let vram = r.text_or(&INSTANCE_GPU_VRAM);
            format!("q.gpu.{}", vram.to_ascii_lowercase())
        };
        r.text(&AMQP_QUEUE_INPUT).unwrap_or(of_instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_goes_by_the_version_of_the_broker_unless_it_is_set() {
        let unset = MessageLimit(None);
        let mib = |limit: MessageLimit, version| limit.with_version(version) >> 20;
        assert_eq!(unset.fixed(), None);
        for version in [
            None,
            Some("4.0.5"),
            Some("4.1"),
            Some("30.1"),
            Some("unknown"),
        ] {
            assert_eq!(mib(unset, version), 15, "{version:?}");
        }
        for version in ["3.10.8", "3.13.0"] {
            assert_eq!(mib(unset, Some(version)), 120, "{version}");
        }
        let set = MessageLimit(Some(7 << 20));
        assert_eq!(set.fixed(), Some(7 << 20));
        assert_eq!((mib(set, Some("3.10.8")), mib(set, Some("4.0.5"))), (7, 7));
    }
}
