//! The table of addresses and spellings.

use super::*;

fn guard(trusted: &[&str], open: bool) -> Guard {
    let config = GuardConfig {
        allow_private_networks: open,
        trusted_origins: trusted.iter().map(|origin| (*origin).to_owned()).collect(),
        ..GuardConfig::default()
    };
    Guard::new(&config, ["proxy.internal".to_owned()])
}

/// Hosts of URLs that must be refused without asking anybody, or are no URLs at all.
const FORBIDDEN: &[&str] = &[
    // loopback, in every spelling that URL parsers take
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0x7F.0x0.0x0.0x1",
    "127.0.0.1.",
    "127.000.000.001",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::0001]",
    // this network
    "0.0.0.0",
    "0",
    "0x0",
    "0.1.2.3",
    "[::]",
    // private
    "10.0.0.1",
    "10.255.255.255",
    "10.1",
    "167772161",
    "0xa000001",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "2886729729",
    "192.168.0.1",
    "192.168.1",
    "192.168.255.255",
    "0300.0250.0.1",
    "3232235521",
    // carrier-grade NAT and Alibaba's metadata service
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    // link-local and the clouds' metadata services
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.169.253",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[fe80::1]",
    "[febf::1]",
    "[fe80::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "192.0.0.192",
    "168.63.129.16",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    // IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[0:0:0:0:0:ffff:c0a8:0001]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::1]",
    "[64:ff9b:1:fffe::8.8.8.8]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2002:808:808::1]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[::ffff:0:127.0.0.1]",
    // unique-local, site-local, multicast, discard, the rest outside 2000::/3
    "[fc00::1]",
    "[fd00::1]",
    "[fdff:ffff::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[5f00::1]",
    "[4000::1]",
    "[e000::1]",
    "[1::1]",
    // documentation, benchmarks, protocol assignments
    "192.0.2.1",
    "198.51.100.7",
    "203.0.113.9",
    "[2001:db8::1]",
    "[3fff::1]",
    "198.18.0.1",
    "198.19.255.255",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "192.0.0.1",
    "192.88.99.1",
    // multicast, reserved, broadcast
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    "0xffffffff",
];

/// Addresses of the public internet, close to the edges of the forbidden ones.
const ALLOWED: &[&str] = &[
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "192.0.3.1",
    "192.167.255.255",
    "192.169.0.1",
    "198.17.255.255",
    "198.20.0.1",
    "203.0.112.1",
    "223.255.255.255",
    "134744072",
    "0x08080808",
    "[2606:4700:4700::1111]",
    "[2001:4860:4860::8888]",
    "[2a00:1450::1]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
    "[2001:200::1]",
    "[3ffe::1]",
    "[3fff:1000::1]",
];

#[test]
fn addresses_and_spellings() {
    assert!(FORBIDDEN.len() >= 80, "{}", FORBIDDEN.len());
    let guard = guard(&["http://minio:9000"], false);
    for scheme in ["http", "https"] {
        for host in FORBIDDEN {
            // What is no URL for us cannot be fetched either.
            if let Ok(url) = Url::parse(&format!("{scheme}://{host}/x")) {
                let refused = guard.check_literal(&url).expect_err(host);
                assert!(
                    refused.0.contains("HTTP_TRUSTED_ORIGINS")
                        && refused.0.contains("ALLOW_PRIVATE_NETWORKS"),
                    "{refused}"
                );
                let detour = guard.detour(&url).expect(host);
                assert!(refusal_in_name(&detour).is_some(), "{detour}");
            }
        }
        for host in ALLOWED {
            let url = Url::parse(&format!("{scheme}://{host}/x")).unwrap();
            assert!(
                guard.check_literal(&url).is_ok() && guard.detour(&url).is_none(),
                "{host}"
            );
        }
    }
}

#[test]
fn only_the_zone_spellings_are_no_urls() {
    let unparsable: Vec<_> = FORBIDDEN
        .iter()
        .filter(|host| Url::parse(&format!("http://{host}/")).is_err())
        .collect();
    assert_eq!(unparsable, [&"[fe80::1%25eth0]", &"[fe80::1%eth0]"]);
}

#[test]
fn one_private_address_spoils_a_name() {
    let guard = guard(&[], false);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(
        guard
            .admit("h", vec![ip("8.8.8.8"), ip("2606:4700::1")])
            .is_ok()
    );
    assert!(
        guard
            .admit("h", vec![ip("8.8.8.8"), ip("127.0.0.1")])
            .is_err()
    );
    assert!(guard.admit("h", vec![ip("::ffff:10.0.0.1")]).is_err());
}

#[test]
fn trust_is_for_exact_origins() {
    let guard = guard(
        &["http://minio:9000", "http://127.0.0.1:7000", "http://plain"],
        false,
    );
    let url = |text: &str| Url::parse(text).unwrap();
    for (text, trusted) in [
        ("http://minio:9000/bucket", true),
        ("http://MINIO:9000/", true),
        ("http://minio:9001/", false),
        ("http://minio/", false),
        ("https://minio:9000/", false),
        ("http://127.0.0.1:7000/", true),
        ("http://2130706433:7000/", true),
        ("http://127.0.0.1:7001/", false),
        ("http://127.0.0.2:7000/", false),
        ("http://plain:80/", true),
        ("http://user@plain/", true),
    ] {
        assert_eq!(guard.trusts(&url(text)), trusted, "{text}");
        assert_eq!(guard.detour(&url(text)).is_none(), trusted, "{text}");
    }
    // The resolver lets the name through; the detour keeps other ports of it away.
    assert!(
        guard
            .admit("minio", vec!["10.0.0.9".parse().unwrap()])
            .is_ok()
    );
    assert!(
        guard
            .admit("other", vec!["10.0.0.9".parse().unwrap()])
            .is_err()
    );
    // A proxy may be private, but is no target.
    assert!(
        guard
            .admit("proxy.internal", vec!["10.0.0.9".parse().unwrap()])
            .is_ok()
    );
    assert!(guard.detour(&url("http://proxy.internal/")).is_some());
}

#[test]
fn an_open_guard_lets_everything_through() {
    let guard = guard(&[], true);
    let url = Url::parse("http://169.254.169.254/").unwrap();
    assert!(guard.check_literal(&url).is_ok() && guard.detour(&url).is_none());
    assert!(guard.admit("h", vec!["127.0.0.1".parse().unwrap()]).is_ok());
    assert!(
        guard
            .check_literal(&Url::parse("file:///etc/passwd").unwrap())
            .is_err()
    );
}

/// D08: webhooks reach private networks, and nothing else that is not public.
#[test]
fn webhooks_reach_private_networks() {
    let webhooks = |allowed: bool| {
        let config = GuardConfig {
            webhooks_to_private: allowed,
            trusted_origins: vec!["http://app:9000".to_owned()],
            ..GuardConfig::default()
        };
        Guard::for_webhooks(&config, ["proxy.internal".to_owned()])
    };
    let private = [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fd12::1",
        "::ffff:10.0.0.1",
    ];
    for ip in private {
        let ip: IpAddr = ip.parse().unwrap();
        assert!(webhooks(true).admit("h", vec![ip]).is_ok(), "{ip}");
        assert!(webhooks(false).admit("h", vec![ip]).is_err(), "{ip}");
    }
    for ip in [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert!(webhooks(true).admit("h", vec![ip]).is_err(), "{ip}");
    }
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(
        webhooks(true)
            .check_literal(&url("http://10.0.0.1:3000/"))
            .is_ok()
    );
    assert!(webhooks(true).check_literal(&url("http://[::1]/")).is_err());
    // The host of a trusted origin is an ordinary one at its other ports.
    assert!(webhooks(true).detour(&url("http://app:3000/")).is_none());
    assert!(
        webhooks(true)
            .detour(&url("http://proxy.internal:3000/"))
            .is_some()
    );
}
