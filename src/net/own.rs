//! ComfyUI's own address, which webhooks do not reach although it may lie in a private network (D08).

use std::net::IpAddr;

use url::Url;

use super::{Refused, resolve};

/// Where ComfyUI answers.
#[derive(Debug, Clone)]
pub(super) struct Own {
    host: String,
    port: u16,
}

impl Own {
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
        }
    }

    /// Whether a URL has ComfyUI's port: then its addresses matter.
    pub fn has_port_of(&self, url: &Url) -> bool {
        url.port_or_known_default() == Some(self.port)
    }

    /// Refuses ComfyUI's addresses.
    pub async fn admit(&self, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let own = self.addresses().await;
        if addresses.iter().any(|ip| own.contains(&ip.to_canonical())) {
            return Err(Refused(format!(
                "{host}:{} is ComfyUI itself, which webhooks may not reach. \
                 To allow it, add its origin to HTTP_TRUSTED_ORIGINS or set ALLOW_PRIVATE_NETWORKS=true",
                self.port
            )));
        }
        Ok(addresses)
    }

    async fn addresses(&self) -> Vec<IpAddr> {
        let named = resolve(&self.host).await.unwrap_or_default();
        let mut own: Vec<IpAddr> = named.iter().map(IpAddr::to_canonical).collect();
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
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.17.0.0\n        /16 link UNICAST\n     |-- 172.17.0.2\n        /32 host LOCAL\nLocal:\n     |-- 172.17.0.2\n        /32 host LOCAL\n";
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
        let own = Own::new("127.0.0.1", 8188);
        assert!(own.has_port_of(&url("http://h:8188/")) && !own.has_port_of(&url("http://h/")));
        for ip in of_this_machine() {
            assert!(own.admit("h", vec![ip]).await.is_err(), "{ip}");
        }
        let elsewhere = Own::new("10.9.8.7", 8188);
        let admitted = |ip: &str| {
            let ip = ip.parse().unwrap();
            let elsewhere = elsewhere.clone();
            async move { elsewhere.admit("h", vec![ip]).await.is_ok() }
        };
        assert!(!admitted("10.9.8.7").await && !admitted("::ffff:10.9.8.7").await);
        assert!(admitted("10.9.8.8").await);
    }
}
