use url::Url;

use super::*;
use crate::config::Secret;

#[test]
fn patterns_match_the_whole_url() {
    for (pattern, url, matches) in [
        ("https://h/a", "https://h/a", true),
        ("https://h/a", "https://h/ab", false),
        ("https://h/*", "https://h/a.bin", true),
        ("https://h/*", "https://h/d/a.bin", false),
        ("https://h/*", "https://h/", true),
        ("https://h/**", "https://h/d/a.bin?x=1", true),
        ("https://*.h/**", "https://evil/x.h/y", false),
        ("https://h/?.bin", "https://h/a.bin", true),
        ("https://h/?.bin", "https://h/.bin", false),
        ("https://h/?.bin", "https://h/ab.bin", false),
        ("**", "s3://anything/at/all", true),
        ("https://h/***x", "https://h/a/b/x", true),
        ("", "", true),
        ("", "x", false),
        ("*", "", true),
        ("?", "", false),
        ("h**?x", "h/a/x", true),
        ("ä*ü", "äöü", true),
        ("a*/**/*.bin", "a/b/c/d.bin", true),
        ("a*/**/*.bin", "a/d.bin", false),
    ] {
        assert_eq!(
            Pattern::new(pattern).matches(url).0,
            matches,
            "{pattern} {url}"
        );
    }
    for length in [63, 64, 65, 127, 128, 300] {
        let pattern = format!("*{}", "a".repeat(length));
        let matches = |url: String| Pattern::new(&pattern).matches(&url).0;
        assert!(matches("a".repeat(length)) && matches("a".repeat(length + 9)));
        assert!(!matches("a".repeat(length - 1)) && !matches(format!("{}b", "a".repeat(length))));
    }
}

fn credential(pattern: &str, token: &str) -> Credential {
    Credential {
        url_pattern: pattern.to_owned(),
        auth: Auth::Bearer {
            token: Secret::new(token),
        },
    }
}

#[test]
fn the_first_pattern_that_matches_counts() {
    let credentials: Credentials = vec![
        credential("https://h/a*", "1"),
        credential("https://h/**", "2"),
    ]
    .into();
    let token = |url| match credentials.choose(url).unwrap() {
        Some(Auth::Bearer { token }) => token.expose().to_owned(),
        _ => String::new(),
    };
    assert_eq!(
        ["https://h/ab", "https://h/b", "https://i/"].map(token),
        ["1", "2", ""]
    );
}

/// A20: a hundred patterns of a thousand characters and 64 URLs of 7 kB.
#[test]
fn choosing_ends_whatever_the_patterns_are() {
    let pattern = format!("{}b", "**a".repeat(340));
    let credentials: Credentials = vec![credential(&pattern, "1"); 100].into();
    let url = "a".repeat(7_000);
    let steps: u64 = (0..64)
        .map_while(|_| credentials.choose(&url).ok())
        .map(|found| u64::from(found.is_some()))
        .sum();
    assert_eq!(steps, 0);
    let failure = credentials.choose(&url).unwrap_err();
    assert!(failure.message.contains("too long"), "{failure}");
    let spent = credentials.0.unwrap().spent.load(Ordering::Relaxed);
    assert!(spent < 2 * MATCHING_STEPS, "{spent}");
}

/// A20: what is usual stays far below the limit.
#[test]
fn a_hundred_credentials_and_a_thousand_urls_are_fine() {
    let list = (0..100).map(|n| {
        credential(
            &format!("https://host-{n}.example.com/**/*.safetensors"),
            "1",
        )
    });
    let credentials: Credentials = list.collect::<Vec<_>>().into();
    for n in 0..1_000 {
        let url = format!("https://host-99.example.com/models/{n}/a.safetensors?version=7");
        assert!(credentials.choose(&url).unwrap().is_none());
        assert!(
            credentials
                .choose(&url[..url.len() - 10])
                .unwrap()
                .is_some()
        );
    }
}

/// A02
#[test]
fn a_query_only_adds() {
    let query = |name: &str, value: &str| Auth::Query {
        query_param: name.into(),
        query_value: Secret::new(value),
    };
    let url = Url::parse("https://h/f?file=good&Sig=1&x%79=2").unwrap();
    for auth in [
        query("file", "evil"),
        query("FILE", "evil"),
        query("xy", "3"),
        query("sas", "?sv=1&sig=2"),
        query("SAS", "sv=1&%66ile=2"),
    ] {
        assert!(auth.check_added_to(&url).is_err(), "{auth:?}");
    }
    for auth in [
        query("token", "t"),
        query("sas", "?sv=1&se=2"),
        query("f", "1"),
    ] {
        assert!(auth.check_added_to(&url).is_ok(), "{auth:?}");
    }
}
