//! The ways out: one TLS configuration, one resolver, a few shared HTTP clients, the guard over
//! addresses, one retry rule.
//!
//! Every part that talks to the outside takes an [`Outbound`] and picks the client by *who chose
//! the URL*: a client of ours ([`Outbound::guarded`]), the operator ([`Outbound::operator`]), or
//! nobody, because it is ComfyUI ([`Outbound::comfyui`]).

mod guard;
pub mod held_body;
pub mod http_fields;
#[cfg(target_feature = "crt-static")]
mod nss;
mod own;
mod proxy;
pub mod redirect;
pub mod resolver;
pub mod retry;
pub mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use guard::is_public;
pub use resolver::{NameError, resolve};
use url::Url;

use crate::config::{Secret, StorageConfig};
use guard::Guard;
use own::Own;
use proxy::Proxies;
use resolver::GuardedResolver;

/// A URL that may not be reached, in a sentence that names the variables which would allow it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A peer that does not take a connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection to ComfyUI is kept for the next request.
const COMFYUI_IDLE: Duration = Duration::from_secs(30);
/// How many are kept. When hundreds of prompts come in one moment, there are as many, each with the
/// buffers of the largest answer that it has had.
const COMFYUI_IDLE_CONNECTIONS: usize = 32;

/// The shared clients. Cheap to clone.
///
/// They limit how long connecting takes, and nothing else: reqwest's read timeout runs while a
/// request's body is still being sent, so it would end every long upload. Whoever sends says how
/// long it waits for the answer.
#[derive(Clone, Debug)]
pub struct Outbound {
    inner: Arc<Clients>,
}

#[derive(Debug)]
struct Clients {
    guard: Arc<Guard>,
    proxies: Arc<Proxies>,
    tls: rustls::ClientConfig,
    guarded: reqwest::Client,
    operator: reqwest::Client,
    comfyui: reqwest::Client,
    webhook_guard: Arc<Guard>,
    webhook: reqwest::Client,
    /// For receivers at ComfyUI's port.
    webhook_own: reqwest::Client,
    own: Option<Own>,
}

impl Outbound {
    /// Builds the clients.
    ///
    /// # Errors
    /// When TLS or a proxy cannot be set up.
    pub fn new(config: &StorageConfig) -> Result<Self, String> {
        let tls = tls::client_config(tls::Extras::default())?;
        let proxies = Arc::new(Proxies::new(&config.proxy));
        let guard = Arc::new(Guard::new(&config.guard, proxies.hosts()));
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| crate::error::chain(&error))
        };
        let own = Own::new(&config.guard.comfyui);
        let webhook_guard = Arc::new(Guard::for_webhooks(&config.guard, proxies.hosts()));
        let guarded = build(outward(&tls, Some(&guard), None, &proxies))?;
        let operator = build(outward(&tls, None, None, &proxies))?;
        let webhook = build(outward(&tls, Some(&webhook_guard), None, &proxies))?;
        let webhook_own = build(outward(&tls, Some(&webhook_guard), own.as_ref(), &proxies))?;
        // ComfyUI closes idle connections after 75 s; one that it closes at this moment would fail
        // a request that cannot be repeated.
        let comfyui = build(
            base(&tls)
                .pool_idle_timeout(COMFYUI_IDLE)
                .pool_max_idle_per_host(COMFYUI_IDLE_CONNECTIONS)
                .dns_resolver(Arc::new(GuardedResolver::default())),
        )?;
        Ok(Self {
            inner: Arc::new(Clients {
                guard,
                proxies,
                tls,
                guarded,
                operator,
                comfyui,
                webhook_guard,
                webhook,
                webhook_own,
                own,
            }),
        })
    }

    /// For URLs that came from a client: private addresses are refused at connection time. Never
    /// follows redirects by itself.
    pub fn guarded(&self) -> &reqwest::Client {
        &self.inner.guarded
    }

    /// For URLs that the operator configured. Never follows redirects by itself.
    pub fn operator(&self) -> &reqwest::Client {
        &self.inner.operator
    }

    /// A client of its own for the operator's URLs, that speaks HTTP/2 from the first byte, as gRPC
    /// wants it.
    pub fn grpc(&self) -> reqwest::Client {
        let inner = &self.inner;
        let mut tls = inner.tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        outward(&tls, None, None, &inner.proxies)
            .http2_prior_knowledge()
            .build()
            // As it was built for `operator`.
            .unwrap_or_else(|_| inner.operator.clone())
    }

    /// [`Outbound::guarded`] or [`Outbound::operator`], for code that serves both.
    pub fn client(&self, guarded: bool) -> &reqwest::Client {
        if guarded {
            self.guarded()
        } else {
            self.operator()
        }
    }

    /// For ComfyUI: no proxy, no guard, no TLS.
    pub fn comfyui(&self) -> &reqwest::Client {
        &self.inner.comfyui
    }

    /// The shared TLS configuration, for clients that are not reqwest's. For one more CA file see
    /// [`tls::client_config`].
    pub fn tls(&self) -> &rustls::ClientConfig {
        &self.inner.tls
    }

    /// For a webhook: private networks are within reach, unless `WEBHOOK_ALLOW_PRIVATE=false`;
    /// ComfyUI itself is not (D08).
    pub fn webhook(&self, url: &Url) -> &reqwest::Client {
        let inner = &self.inner;
        match &inner.own {
            _ if inner.webhook_guard.trusts(url) => &inner.operator,
            Some(own) if own.has_port_of(url) => &inner.webhook_own,
            _ => &inner.webhook,
        }
    }

    /// Checks a URL from a client before anything runs: scheme, host, and the addresses it resolves
    /// to now. (The connection is checked again when it is made.) A name that does not resolve is
    /// not refused here.
    ///
    /// # Errors
    /// When it may not be reached.
    pub async fn check(&self, url: &Url) -> Result<(), Refused> {
        check(&self.inner.guard, url).await.map(drop)
    }

    /// [`Outbound::check`] of a webhook's receiver.
    ///
    /// # Errors
    /// When it may not be reached.
    pub async fn check_webhook(&self, url: &Url) -> Result<(), Refused> {
        let addresses = check(&self.inner.webhook_guard, url).await?;
        match (&self.inner.own, url.host_str()) {
            (Some(own), Some(host)) if own.has_port_of(url) => {
                own.admit(host, addresses).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The proxy that a URL goes through, for programs that we start.
    pub fn proxy_of(&self, url: &Url) -> Option<&Secret> {
        self.inner.proxies.of(url)
    }

    /// The addresses of a URL's host that may be connected to, for programs that connect by
    /// themselves.
    ///
    /// # Errors
    /// When it may not be reached. A name that does not resolve has no addresses.
    pub async fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, Refused> {
        self.check(url).await?;
        let Some(host) = url.host_str() else {
            return Ok(Vec::new());
        };
        match resolve(host).await {
            Ok(addresses) if self.inner.guard.trusts(url) => Ok(addresses),
            Ok(addresses) => self.inner.guard.admit(host, addresses),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Checks what the connection itself cannot: behind a proxy it is the proxy that resolves and
    /// connects.
    async fn check_hop(&self, url: &Url) -> Result<(), Refused> {
        if self.inner.proxies.of(url).is_some() {
            self.check(url).await
        } else {
            self.inner.guard.check_literal(url)
        }
    }
}

/// The addresses that were judged: none of a trusted origin, nor of a name that does not resolve.
async fn check(guard: &Guard, url: &Url) -> Result<Vec<IpAddr>, Refused> {
    guard.check_literal(url)?;
    if guard.trusts(url) {
        return Ok(Vec::new());
    }
    if let Some(name) = guard.detour(url) {
        return Err(guard::refusal_in_name(&name).unwrap_or(Refused(name)));
    }
    let Some(host) = url.host_str() else {
        return Ok(Vec::new());
    };
    match resolve(host).await {
        Ok(addresses) => guard.admit(host, addresses),
        Err(_) => Ok(Vec::new()),
    }
}

fn base(tls: &rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // Storage wants the bytes as they are stored.
        .no_gzip()
        // Parallel ranges are to be parallel connections.
        .http1_only()
        .no_proxy()
        .referer(false)
        .tls_backend_preconfigured(tls.clone())
        .connect_timeout(CONNECT_TIMEOUT)
}

fn outward(
    tls: &rustls::ClientConfig,
    guard: Option<&Arc<Guard>>,
    own: Option<&Own>,
    proxies: &Arc<Proxies>,
) -> reqwest::ClientBuilder {
    let (of_route, proxies) = (guard.cloned(), Arc::clone(proxies));
    let route = move |url: &Url| {
        if let Some(name) = of_route.as_ref().and_then(|guard| guard.detour(url)) {
            return Some(format!("http://{name}"));
        }
        proxies.of(url).map(|proxy| proxy.expose().to_owned())
    };
    base(tls)
        .user_agent(concat!("comfyui-api/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(GuardedResolver {
            guard: guard.cloned(),
            own: own.cloned(),
        }))
        .proxy(reqwest::Proxy::custom(route))
}

/// The first cause of a kind in the chain of an error.
pub(crate) fn cause<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// Whether a request failed because the guard refused its address.
pub fn refusal_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refused> {
    cause(error)
}

/// Opens a TCP connection to `host:port`, names resolved by the shared resolver.
///
/// # Errors
/// When the name does not resolve or nothing answers.
pub async fn dial(authority: &str) -> std::io::Result<tokio::net::TcpStream> {
    let unusable = |reason: &str| {
        std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            format!("{authority}: {reason}"),
        )
    };
    let (host, port) = authority
        .rsplit_once(':')
        .ok_or_else(|| unusable("no port"))?;
    let port: u16 = port
        .parse()
        .map_err(|_| unusable("the port is not a number"))?;
    let addresses = resolve(host.trim_matches(['[', ']']))
        .await
        .map_err(std::io::Error::other)?;
    let addresses: Vec<_> = addresses
        .into_iter()
        .map(|address| std::net::SocketAddr::new(address, port))
        .collect();
    tokio::net::TcpStream::connect(addresses.as_slice()).await
}

/// The addresses to try to bind for a host name or address: `::` also means IPv4, alone where there
/// is no IPv6.
///
/// # Errors
/// When a name does not resolve.
pub async fn bind_addresses(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.is_unspecified() => Ok(vec![
            SocketAddr::new(v6.into(), port),
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        ]),
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => {
            let addresses = resolve(host)
                .await
                .map_err(|error| format!("HOST=\"{host}\": {error}"))?;
            Ok(addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect())
        }
    }
}

/// Installs the process's one TLS provider, and keeps the C library's resolver out of a static
/// binary. The first line of `main`; harmless when repeated.
pub fn install_crypto() {
    #[cfg(target_feature = "crt-static")]
    nss::keep();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests;
