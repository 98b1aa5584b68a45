//! ComfyUI's own address, which webhooks do not reach although it may lie in a private network
//! (D08).

use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use super::{Refused, resolve};

/// Where ComfyUI answers.
#[derive(Debug, Clone)]
pub(super) struct Own {
    places: Arc<[(String, u16)]>,
}

impl Own {
    /// `None` where there is no ComfyUI.
    pub fn new(places: &[(String, u16)]) -> Option<Self> {
        let plain = |(host, port): &(String, u16)| {
            let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
            (host, *port)
        };
        let places: Arc<[(String, u16)]> = places.iter().map(plain).collect();
        (!places.is_empty()).then_some(Self { places })
    }

    /// Whether a URL has ComfyUI's port: then its addresses matter.
    pub fn has_port_of(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.places.iter().any(|(_, own)| Some(*own) == port)
    }

    /// Refuses ComfyUI's addresses.
    pub async fn admit(&self, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let own = self.addresses().await;
        if addresses.iter().any(|ip| own.contains(&ip.to_canonical())) {
            let port = match &*self.places {
                [(_, port)] => format!(":{port}"),
                _ => String::new(),
            };
            return Err(Refused(format!(
                "{host}{port} is ComfyUI itself, which webhooks may not reach. To allow it, add \
                 its origin to HTTP_TRUSTED_ORIGINS or set ALLOW_PRIVATE_NETWORKS=true"
            )));
        }
        Ok(addresses)
    }

    async fn addresses(&self) -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> = Vec::new();
        let mut hosts: Vec<&String> = self.places.iter().map(|(host, _)| host).collect();
        hosts.dedup();
        for host in hosts {
            let named = resolve(host).await.unwrap_or_default();
            own.extend(named.iter().map(IpAddr::to_canonical));
        }
        // On this machine it may listen on every address.
        if own.is_empty() || own.iter().any(|ip| ip.is_loopback() || ip.is_unspecified()) {
            own.extend(of_this_machine());
        }
        own
    }
}

/// As the kernel lists them; nothing where it does not.
fn of_this_machine() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut own = local_v4(&read("/proc/net/fib_trie"));
    own.extend(local_v6(&read("/proc/net/if_inet6")));
    own
}

/// A line with the address, and below it what it is: `/32 host LOCAL`.
fn local_v4(table: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.filter(|ip| !found.contains(ip)));
        }
    }
    found
}

/// 32 hexadecimal digits at the beginning of each line.
fn local_v6(table: &str) -> Vec<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.get(..32)?, 16).ok();
    table
        .lines()
        .filter_map(address)
        .map(|bits| IpAddr::from(std::net::Ipv6Addr::from_bits(bits)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.17.0.0\n        /16 link \
                     UNICAST\n     |-- 172.17.0.2\n        /32 host LOCAL\nLocal:\n     |-- \
                     172.17.0.2\n        /32 host LOCAL\n";
        assert_eq!(local_v4(table), ["172.17.0.2".parse::<IpAddr>().unwrap()]);
        let table = "fe800000000000000042acfffe110002 05 40 20 80 eth0\nshort\n";
        assert_eq!(
            local_v6(table),
            ["fe80::42:acff:fe11:2".parse::<IpAddr>().unwrap()]
        );
        assert!(of_this_machine().iter().any(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn comfyui_is_known_by_every_address_of_its_machine() {
        let url = |text: &str| Url::parse(text).unwrap();
        let own = Own::new(&[("127.0.0.1".to_owned(), 8188)]).unwrap();
        assert!(own.has_port_of(&url("http://h:8188/")) && !own.has_port_of(&url("http://h/")));
        for ip in of_this_machine() {
            assert!(own.admit("h", vec![ip]).await.is_err(), "{ip}");
        }
        let elsewhere = Own::new(&[("10.9.8.7".to_owned(), 8188)]).unwrap();
        let admitted = |ip: &str| {
            let ip = ip.parse().unwrap();
            let elsewhere = elsewhere.clone();
            async move { elsewhere.admit("h", vec![ip]).await.is_ok() }
        };
        assert!(!admitted("10.9.8.7").await && !admitted("::ffff:10.9.8.7").await);
        assert!(admitted("10.9.8.8").await);
    }
}
