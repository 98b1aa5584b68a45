//! The guard over addresses: URLs come from clients, so they may only reach what the whole internet
//! may reach (storage.md, "Where requests may reach").
//!
//! Names are judged where they are resolved for the connection, so there is nothing to rebind
//! afterwards. Literal addresses never reach a resolver; for them, and for names that are only
//! trusted under other ports, [`Guard::detour`] leads the connection to a name that the resolver
//! refuses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::Refused;
use crate::config::GuardConfig;

/// Which addresses may be connected to for clients.
#[derive(Debug, Default)]
pub(super) struct Guard {
    open: bool,
    /// Private networks are within reach (webhooks, D08).
    private: bool,
    trusted_origins: HashSet<String>,
    /// Hosts whose addresses the resolver lets through: those of trusted origins and the proxies.
    /// [`Guard::detour`] sees to it that other origins on these hosts get nothing from that.
    excepted_hosts: HashSet<String>,
}

/// The end of names that are refused whatever they would resolve to. `.invalid` can never be
/// registered.
const REFUSED_SUFFIX: &str = ".comfyui-api-refused.invalid";

impl Guard {
    pub fn new(config: &GuardConfig, proxy_hosts: impl IntoIterator<Item = String>) -> Self {
        let trusted_origins: HashSet<String> = config.trusted_origins.iter().cloned().collect();
        let excepted_hosts = trusted_origins
            .iter()
            .filter_map(|origin| Url::parse(origin).ok()?.host_str().map(normal))
            .chain(proxy_hosts.into_iter().map(|h| normal(&h)))
            .collect();
        Self {
            open: config.allow_private_networks,
            private: false,
            trusted_origins,
            excepted_hosts,
        }
    }

    /// For webhooks: receivers live in private networks. A trusted origin does not go this way
    /// ([`super::Outbound::webhook`]), so that its host needs no exception.
    pub fn for_webhooks(
        config: &GuardConfig,
        proxy_hosts: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            private: config.webhooks_to_private,
            excepted_hosts: proxy_hosts.into_iter().map(|h| normal(&h)).collect(),
            ..Self::new(config, [])
        }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.private && is_private(ip)
    }

    pub fn trusts(&self, url: &Url) -> bool {
        self.open
            || self
                .trusted_origins
                .contains(&url.origin().ascii_serialization())
    }

    /// What a URL alone tells, without asking a resolver.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused(format!(
                "{}:// URLs are not fetched: use http or https",
                url.scheme()
            )));
        }
        if self.trusts(url) {
            return Ok(());
        }
        match literal(url) {
            Some(ip) if !self.allows(ip) => Err(refusal(&ip.to_string())),
            _ if url.host().is_none() => {
                Err(Refused("a URL without a host cannot be fetched".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The addresses of a name that may be connected to. One forbidden address among them refuses
    /// the name: a name that points both inwards and outwards is an attack or a mistake.
    pub fn admit(&self, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        if self.open
            || self.excepted_hosts.contains(&normal(host))
            || addresses.iter().all(|ip| self.allows(*ip))
        {
            return Ok(addresses);
        }
        Err(refusal(host))
    }

    /// Whether a URL must not be connected to as it stands: then the name to connect to instead,
    /// which is refused.
    pub fn detour(&self, url: &Url) -> Option<String> {
        if self.trusts(url) {
            return None;
        }
        let host = url.host_str()?;
        let refused = match literal(url) {
            Some(ip) => !self.allows(ip),
            None => self.excepted_hosts.contains(&normal(host)),
        };
        refused.then(|| format!("{}{REFUSED_SUFFIX}", encode(host)))
    }
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

pub(super) fn refusal(host: &str) -> Refused {
    Refused(format!(
        "{host} is, or resolves to, a loopback, private, link-local or reserved address, which \
         requests may not reach. To allow it, add its origin to HTTP_TRUSTED_ORIGINS or set \
         ALLOW_PRIVATE_NETWORKS=true"
    ))
}

/// A host as labels: the colons of IPv6 cannot stand in a name.
fn encode(host: &str) -> String {
    host.trim_matches(['[', ']']).replace(':', "_")
}

/// The sentence for a name made by [`Guard::detour`].
pub(super) fn refusal_in_name(name: &str) -> Option<Refused> {
    name.strip_suffix(REFUSED_SUFFIX)
        .map(|host| refusal(&host.replace('_', ":")))
}

/// The address that a URL names directly. The URL parser has read every spelling of IPv4 already
/// (decimal, octal, hexadecimal, short).
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(v4) => Some(v4.into()),
        Host::Ipv6(v6) => Some(v6.into()),
        Host::Domain(name) => name.trim_end_matches('.').parse().ok(),
    }
}

/// Whether an address is one of a private network: RFC 1918, unique local, carrier-grade NAT; but
/// none of the metadata services that hide there.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            match s {
                [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                    is_private_v4(Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7])))
                }
                // Amazon's and Google's.
                [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => false,
                [first, ..] => first & 0xfe00 == 0xfc00,
            }
        }
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let carrier = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    // Alibaba's metadata.
    (ip.is_private() || carrier) && ip != Ipv4Addr::new(100, 100, 100, 200)
}

/// Whether an address is one of the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    /// Network and prefix length; IANA's special-purpose registry, and one cloud's metadata service
    /// outside it.
    const FORBIDDEN: &[([u8; 4], u32)] = &[
        ([0, 0, 0, 0], 8),        // this network
        ([10, 0, 0, 0], 8),       // private
        ([100, 64, 0, 0], 10),    // carrier-grade NAT, Alibaba's metadata, Tailscale
        ([127, 0, 0, 0], 8),      // loopback
        ([168, 63, 129, 16], 32), // Azure's wire server
        ([169, 254, 0, 0], 16),   // link-local, most clouds' metadata
        ([172, 16, 0, 0], 12),    // private
        ([192, 0, 0, 0], 24),     // protocol assignments, Oracle's metadata
        ([192, 0, 2, 0], 24),     // documentation
        ([192, 88, 99, 0], 24),   // 6to4 relays
        ([192, 168, 0, 0], 16),   // private
        ([198, 18, 0, 0], 15),    // benchmarks
        ([198, 51, 100, 0], 24),  // documentation
        ([203, 0, 113, 0], 24),   // documentation
        ([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
    ];
    !FORBIDDEN.iter().any(|(network, length)| {
        (u32::from(ip) ^ u32::from_be_bytes(*network)) >> (32 - length) == 0
    })
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let low = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        // Mapped, and the NAT64 prefix that DNS64 answers with on IPv6-only networks: they are the
        // IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(low),
        // Only 2000::/3 is the internet. Within it: protocol assignments with Teredo, ORCHID and
        // benchmarks (2001::/23), documentation, 6to4 (dead, and able to name any IPv4 address).
        [first, second, ..] => {
            first & 0xe000 == 0x2000
                && !(first == 0x2001 && second < 0x200)
                && !(first == 0x2001 && second == 0xdb8)
                && first != 0x2002
                && !(first == 0x3fff && second < 0x1000)
        }
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
