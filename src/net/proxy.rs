//! Which proxy a URL goes through: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.

use std::net::IpAddr;

use url::Url;

use crate::config::{ProxyConfig, Secret};

/// The proxies, and who goes past them.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<Secret>,
    https: Option<Secret>,
    direct: Vec<Direct>,
}

/// One word of `NO_PROXY`.
#[derive(Debug, Clone)]
enum Direct {
    Everything,
    /// The domain itself and everything below it, at this port if one is given.
    Domain(String, Option<u16>),
    Network(IpAddr, u8),
}

impl Proxies {
    pub fn new(config: &ProxyConfig) -> Self {
        let words = config
            .no_proxy
            .as_deref()
            .unwrap_or_default()
            .split([',', ' '])
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Self {
            http: config.http.clone(),
            https: config.https.clone(),
            direct: words.map(Direct::parse).collect(),
        }
    }

    /// Host names of the proxies, which may be private.
    pub fn hosts(&self) -> Vec<String> {
        [&self.http, &self.https]
            .into_iter()
            .flatten()
            .filter_map(|proxy| Some(Url::parse(proxy.expose()).ok()?.host_str()?.to_owned()))
            .collect()
    }

    /// The proxy that a URL goes through.
    pub fn of(&self, url: &Url) -> Option<&Secret> {
        let proxy = if url.scheme() == "https" {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }?;
        let host = url
            .host_str()?
            .trim_end_matches('.')
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let direct = self
            .direct
            .iter()
            .any(|direct| direct.covers(&host, url.port_or_known_default()));
        (!direct).then_some(proxy)
    }
}

impl Direct {
    fn parse(word: &str) -> Self {
        if word == "*" {
            return Self::Everything;
        }
        if let Some((network, length)) = word.split_once('/')
            && let (Ok(ip), Ok(length)) = (network.parse::<IpAddr>(), length.parse())
        {
            return Self::Network(ip, length);
        }
        if let Ok(ip) = word.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Self::Network(ip, if ip.is_ipv4() { 32 } else { 128 });
        }
        let (name, port) = match word.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (word, None),
        };
        Self::Domain(
            name.trim_start_matches("*.")
                .trim_matches('.')
                .to_ascii_lowercase(),
            port,
        )
    }

    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(domain, only) => {
                (host == domain
                    || host
                        .strip_suffix(domain.as_str())
                        .is_some_and(|head| head.ends_with('.')))
                    && (only.is_none() || *only == port)
            }
            Self::Network(network, length) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(ip))) => {
                    (u32::from(*network) ^ u32::from(ip))
                        .checked_shr(32 - u32::from(*length).min(32))
                        .unwrap_or(0)
                        == 0
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(ip))) => {
                    (u128::from(*network) ^ u128::from(ip))
                        .checked_shr(128 - u32::from(*length).min(128))
                        .unwrap_or(0)
                        == 0
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(no_proxy: &str, url: &str) -> bool {
        let config = ProxyConfig {
            http: Some(Secret::new("http://proxy:1")),
            https: Some(Secret::new("http://proxy:2")),
            no_proxy: Some(no_proxy.into()),
        };
        Proxies::new(&config)
            .of(&Url::parse(url).unwrap())
            .is_some()
    }

    #[test]
    fn no_proxy_words_are_read_as_everybody_reads_them() {
        assert!(proxied("", "http://a.example/"));
        assert!(!proxied("*", "http://a.example/"));
        assert!(!proxied("b.example, .a.example", "https://x.a.example/"));
        assert!(!proxied("a.example", "https://a.example./"));
        assert!(proxied("a.example", "https://nota.example/"));
        assert!(!proxied("10.0.0.0/8", "http://10.1.2.3/"));
        assert!(proxied("10.0.0.0/8", "http://11.1.2.3/"));
        assert!(!proxied("0.0.0.0/0", "http://11.1.2.3/"));
        assert!(!proxied("fd00::/8,::1", "http://[fd12::1]/"));
        assert!(!proxied("a.example:8080", "http://a.example:8080/"));
        assert!(proxied("a.example:8080", "http://a.example/"));
    }
}
