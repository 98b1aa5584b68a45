//! The one resolver. Never the C library's: in a static binary that loads plug-ins of a foreign
//! glibc and crashes.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are honoured, read once. Without the latter the name server
//! is the local host, as glibc does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::Guard;
use super::own::Own;

/// A name that cannot be resolved.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the host name {host} cannot be resolved: {reason}")]
pub struct NameError {
    host: String,
    reason: String,
    /// The name servers answered that there is no such name: another try gives the same.
    pub unknown: bool,
}

/// However many name servers are slow: nothing waits for ever.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

static RESOLVER: OnceLock<Result<TokioResolver, String>> = OnceLock::new();

fn resolver() -> Result<&'static TokioResolver, String> {
    RESOLVER
        .get_or_init(|| {
            let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::debug!(%error, "no usable /etc/resolv.conf: the name server is 127.0.0.1");
                let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
                TokioResolver::builder_with_config(
                    ResolverConfig::from_name_servers(vec![local]),
                    TokioRuntimeProvider::default(),
                )
            });
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// The addresses of a host: a literal address (brackets allowed) is itself, anything else goes
/// through `/etc/hosts` and DNS.
///
/// # Errors
/// When the name cannot be resolved within 20 s, or has no address.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, NameError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Ok(vec![ip]);
    }
    let failed = |reason: String, unknown: bool| NameError {
        host: host.to_owned(),
        reason,
        unknown,
    };
    let resolver = resolver().map_err(|reason| failed(reason, false))?;
    match tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host)).await {
        Err(_) => Err(failed(
            "the name servers did not answer in time".to_owned(),
            false,
        )),
        Ok(Err(error)) => Err(failed(
            error.to_string(),
            error.is_nx_domain() || error.is_no_records_found(),
        )),
        Ok(Ok(lookup)) => {
            let addresses: Vec<IpAddr> = lookup.iter().collect();
            if addresses.is_empty() {
                Err(failed("it has no address".to_owned(), true))
            } else {
                Ok(addresses)
            }
        }
    }
}

/// The resolver as reqwest wants it, with the guard applied to its answers: what it lets through is
/// what is connected to.
#[derive(Clone, Default)]
pub(super) struct GuardedResolver {
    pub guard: Option<Arc<Guard>>,
    /// Addresses that are refused in any case.
    pub own: Option<Own>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, own) = (self.guard.clone(), self.own.clone());
        Box::pin(async move {
            let host = name.as_str();
            if let Some(refused) = super::guard::refusal_in_name(host) {
                return Err(refused.into());
            }
            let mut addresses = resolve(host).await?;
            if let Some(guard) = guard {
                addresses = guard.admit(host, addresses)?;
            }
            if let Some(own) = own {
                addresses = own.admit(host, addresses).await?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
