use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};

use super::*;

fn of(text: &str) -> Result<Account, String> {
    Account::from_connection_string(text)
}

#[test]
fn connection_strings_of_all_kinds() {
    let account = of(
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=YWJj+/8=;EndpointSuffix=core.\
         windows.net",
    )
    .unwrap();
    assert_eq!(
        (account.name.as_str(), account.endpoint.as_str()),
        ("acc", "https://acc.blob.core.windows.net/")
    );
    assert!(matches!(&account.permission, Permission::Key(key) if key.expose() == "YWJj+/8="));
    let account = of("UseDevelopmentStorage=true").unwrap();
    assert_eq!(
        account.endpoint.as_str(),
        "http://127.0.0.1:10000/devstoreaccount1"
    );
    let account = of(
        "BlobEndpoint=http://azurite:10000/devstoreaccount1/;SharedAccessSignature=?sv=1&sig=a%3D",
    )
    .unwrap();
    assert_eq!(
        (account.name.as_str(), account.endpoint.as_str()),
        ("devstoreaccount1", "http://azurite:10000/devstoreaccount1")
    );
    assert!(matches!(&account.permission, Permission::Sas(sas) if sas.expose() == "sv=1&sig=a%3D"));
}

#[test]
fn mistakes_are_named_without_the_key() {
    for (text, part) in [
        ("AccountKey=marked", "neither AccountName"),
        ("AccountName=a", "neither AccountKey"),
        ("AccountName=a;AccountKey=marked!", "not base64"),
    ] {
        let sentence = of(text).err().unwrap();
        assert!(
            sentence.contains(part) && !sentence.contains("marked"),
            "{sentence}"
        );
    }
}

/// Hands out a key for user delegation.
fn key_service() -> axum::Router {
    axum::Router::new().fallback(
        |uri: axum::http::Uri, headers: HeaderMap, body: String| async move {
            assert_eq!(uri.query(), Some("restype=service&comp=userdelegationkey"));
            assert_eq!(headers.get(header::AUTHORIZATION).unwrap(), "Bearer token");
            let field = |name: &str| {
                body.split(&format!("<{name}>"))
                    .nth(1)
                    .unwrap()
                    .split('<')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let xml = format!(
                "<?xml version=\"1.0\" \
                 encoding=\"utf-8\"?\
                 ><UserDelegationKey><SignedOid>00000000-0000-0000-0000-000000000001</\
                 SignedOid><SignedTid>00000000-0000-0000-0000-000000000002</\
                 SignedTid><SignedStart>{}</SignedStart><SignedExpiry>{}</\
                 SignedExpiry><SignedService>b</SignedService><SignedVersion>2022-11-02</\
                 SignedVersion><Value>a2V5</Value></UserDelegationKey>",
                field("Start"),
                field("Expiry")
            );
            let date = httpdate::fmt_http_date(std::time::SystemTime::now());
            (
                [
                    (
                        "x-ms-request-id",
                        "00000000-0000-0000-0000-000000000003".to_owned(),
                    ),
                    ("x-ms-version", "2022-11-02".to_owned()),
                    ("server", "x".to_owned()),
                    ("date", date),
                ],
                xml,
            )
        },
    )
}

/// What the service will sign again, by its documentation of version 2022-11-02.
fn string_to_sign(parameter: impl Fn(&str) -> String) -> String {
    [
        "r",
        "",
        &parameter("se"),
        "/blob/acc/c/a b.png",
        &parameter("skoid"),
        &parameter("sktid"),
        &parameter("skt"),
        &parameter("ske"),
        "b",
        "2022-11-02",
        "",
        "",
        "",
        "",
        "",
        "2022-11-02",
        "b",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    .join("\n")
}

/// The service as far as user-delegation needs it: it hands out a key, and the URL must be signed
/// with that key.
#[tokio::test]
async fn an_identity_signs_with_a_key_of_its_own() {
    crate::net::install_crypto();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Url::parse(&format!("http://{}/acc", listener.local_addr().unwrap())).unwrap();
    let router = key_service();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config =
        crate::config::Config::from_env(&std::collections::BTreeMap::<String, String>::new())
            .unwrap()
            .storage;
    let outbound = Outbound::new(&config).unwrap();
    let identity = Arc::new(Identity::new(&config.azure, outbound.clone()));
    let account = Account {
        name: "acc".to_owned(),
        endpoint: endpoint.clone(),
        permission: Permission::Identity(identity),
    };
    let service = Resource {
        client: outbound.operator().clone(),
        credential: Credential::Header(header::AUTHORIZATION, bearer("token").unwrap()),
        url: endpoint,
        shown: "shown".to_owned(),
    };
    let signed = account
        .sign(&service.blob("c", "a b.png"), Duration::from_secs(600))
        .await
        .unwrap();
    let url = Url::parse(&signed).unwrap();
    let parameter = |name: &str| {
        url.query_pairs()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .into_owned()
    };
    assert_eq!(
        (
            url.path(),
            parameter("sp").as_str(),
            parameter("sr").as_str()
        ),
        ("/acc/c/a%20b.png", "r", "b")
    );
    let text = string_to_sign(parameter);
    let mut expected = Hmac::<sha2::Sha256>::new_from_slice(b"key").unwrap();
    expected.update(text.as_bytes());
    assert_eq!(
        parameter("sig"),
        STANDARD.encode(expected.finalize().into_bytes())
    );
}
