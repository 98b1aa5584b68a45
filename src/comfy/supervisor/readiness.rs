//! Whether ComfyUI answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Child, Exit};
use crate::config::ComfyConfig;
use crate::net::retry::Pauses;

/// A local port answers or refuses at once; only a firewall that drops packets makes us wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause between two looks; it doubles up to the configured interval. A ComfyUI that is up
/// early is used early.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A server that takes the connection and says nothing for so long is asked anew.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// Lines of output shown with an error; all that were kept were logged when they were printed.
const SHOWN_LINES: usize = 40;

/// Whether something accepts connections at `authority` (`host:port`, as `ComfyConfig::authority`
/// makes it) already.
///
/// Only addresses and `localhost` are asked: a name would have to be resolved, and a ComfyUI that
/// is to be spawned here listens on an address of this machine.
pub async fn port_in_use(authority: &str) -> bool {
    for address in addresses(authority) {
        if matches!(
            timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await,
            Ok(Ok(_))
        ) {
            return true;
        }
    }
    false
}

fn addresses(authority: &str) -> Vec<SocketAddr> {
    if let Ok(address) = authority.parse() {
        return vec![address];
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => {
            let loopback = [
                IpAddr::from([127, 0, 0, 1]),
                IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ];
            port.parse()
                .map(|port| {
                    loopback
                        .into_iter()
                        .map(|ip| SocketAddr::new(ip, port))
                        .collect()
                })
                .unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Why ComfyUI is not there. Displays as a sentence followed by ComfyUI's last lines, if there are
/// any.
#[derive(Debug, Clone)]
pub enum NotReady {
    /// It ended before it answered.
    Exited {
        /// How.
        exit: Exit,
        /// Its last output, oldest first.
        last_lines: Vec<String>,
    },
    /// It did not answer in time.
    TimedOut {
        /// `host:port` that was asked.
        authority: String,
        /// How long it was asked.
        waited: Duration,
        /// Its last output, oldest first; empty when it is not our child.
        last_lines: Vec<String>,
    },
}

impl NotReady {
    /// ComfyUI's last output, oldest first.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Exited { last_lines, .. } | Self::TimedOut { last_lines, .. } => last_lines,
        }
    }

    /// What happened, without ComfyUI's output: fit for clients.
    pub fn reason(&self) -> String {
        match self {
            Self::Exited { exit, .. } => format!("ComfyUI ended with {exit} before it answered"),
            Self::TimedOut { waited, .. } => {
                format!("ComfyUI did not answer within {} s", waited.as_secs_f64())
            }
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { exit, .. } => write!(f, "ComfyUI ended with {exit} before it answered")?,
            Self::TimedOut {
                authority, waited, ..
            } => write!(
                f,
                "ComfyUI did not answer at {authority} within {} s: if it needs longer, raise \
                 STARTUP_CHECK_MAX_TRIES (or STARTUP_CHECK_INTERVAL_S); if it listens elsewhere, \
                 set DIRECT_ADDRESS and COMFYUI_PORT_HOST",
                waited.as_secs_f64()
            )?,
        }
        let lines = self.last_lines();
        let shown = lines
            .get(lines.len().saturating_sub(SHOWN_LINES)..)
            .unwrap_or_default();
        if !shown.is_empty() {
            write!(f, ". Its last lines:\n{}", shown.join("\n"))?;
        }
        Ok(())
    }
}

impl std::error::Error for NotReady {}

/// Asks ComfyUI (`GET /prompt`, which costs it nothing) until it answers with a success, for
/// `STARTUP_CHECK_INTERVAL_S` x `STARTUP_CHECK_MAX_TRIES` in all. Returns early when `child` ends;
/// without a child (attach) only the time counts. Cancel-safe.
///
/// # Errors
/// When it ended or the time is over.
pub async fn wait_until_answering(
    config: &ComfyConfig,
    client: &reqwest::Client,
    child: Option<&Child>,
) -> Result<(), NotReady> {
    let waited = config
        .startup_check_interval
        .saturating_mul(config.startup_check_max_tries);
    let answers = timeout_at(Instant::now() + waited, poll(config, client));
    let ended = async {
        match child {
            Some(child) => child.exited().await,
            None => std::future::pending().await,
        }
    };
    let last_lines = || child.map(Child::last_lines).unwrap_or_default();
    tokio::select! {
        // A child that died is the better news: another server may have taken its port.
        biased;
        exit = ended => Err(NotReady::Exited { exit, last_lines: last_lines() }),
        answered = answers => answered.map_err(
            |_| NotReady::TimedOut {
                authority: config.authority(),
                waited,
                last_lines: last_lines()
            }
        ),
    }
}

async fn poll(config: &ComfyConfig, client: &reqwest::Client) {
    let url = format!("http://{}/prompt", config.authority());
    let longest = config.startup_check_interval;
    let mut pauses = Pauses::new(FIRST_PAUSE.min(longest), longest);
    loop {
        let look = client.get(&url).timeout(LONGEST_LOOK).send().await;
        match look {
            Ok(response) if response.status().is_success() => return,
            Ok(response) => tracing::debug!(
                status = response.status().as_u16(),
                "ComfyUI is not ready yet"
            ),
            Err(error) => tracing::trace!(
                error = crate::error::chain(&error),
                "ComfyUI does not answer yet"
            ),
        }
        pauses.wait().await;
    }
}
