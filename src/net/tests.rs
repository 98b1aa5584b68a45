//! The clients as a whole.

use super::*;
use crate::config::Config;

fn outbound(variables: &[(&str, &str)]) -> Outbound {
    let variables: std::collections::BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Outbound::new(&Config::from_env(&variables).unwrap().storage).unwrap()
}

async fn get(client: &reqwest::Client, url: &str) -> Result<u16, String> {
    client
        .get(url)
        .send()
        .await
        .map(|response| response.status().as_u16())
        .map_err(|error| match refusal_of(&error) {
            Some(refused) => refused.to_string(),
            None => format!("network: {}", crate::error::chain(&error)),
        })
}

/// A web server that says 200 to everything and remembers the first line of each request.
async fn server() -> (u16, Arc<parking_lot::Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            heard.lock().push(
                String::from_utf8_lossy(&buffer[..count])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
        }
    });
    (port, lines)
}

#[tokio::test]
async fn the_client_itself_refuses_literal_addresses_and_names() {
    let (port, lines) = server().await;
    let outbound = outbound(&[]);
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::1]",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = get(outbound.guarded(), &url).await.unwrap_err();
        assert!(
            error.contains("HTTP_TRUSTED_ORIGINS") && error.contains("ALLOW_PRIVATE_NETWORKS"),
            "{host}: {error}"
        );
        assert!(
            outbound.check(&Url::parse(&url).unwrap()).await.is_err(),
            "{host}"
        );
    }
    assert!(lines.lock().is_empty());
    assert_eq!(
        get(outbound.operator(), &format!("http://127.0.0.1:{port}/")).await,
        Ok(200)
    );
    assert_eq!(
        get(outbound.comfyui(), &format!("http://localhost:{port}/")).await,
        Ok(200)
    );
}

#[tokio::test]
async fn trusted_origins_are_exact() {
    let (port, _) = server().await;
    let (other, lines) = server().await;
    let outbound = outbound(&[(
        "HTTP_TRUSTED_ORIGINS",
        &format!("http://localhost:{port},http://127.0.0.1:{port}"),
    )]);
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(
            get(outbound.guarded(), &format!("http://{host}:{port}/")).await,
            Ok(200)
        );
        assert!(
            get(outbound.guarded(), &format!("http://{host}:{other}/"))
                .await
                .unwrap_err()
                .contains("HTTP_TRUSTED_ORIGINS")
        );
        assert!(
            outbound
                .check(&Url::parse(&format!("http://{host}:{other}/")).unwrap())
                .await
                .is_err()
        );
        assert!(
            outbound
                .check(&Url::parse(&format!("http://{host}:{port}/")).unwrap())
                .await
                .is_ok()
        );
    }
    assert!(lines.lock().is_empty());
    assert_eq!(
        get(
            self::outbound(&[("ALLOW_PRIVATE_NETWORKS", "1")]).guarded(),
            &format!("http://127.0.0.1:{other}/")
        )
        .await,
        Ok(200)
    );
}

#[tokio::test]
async fn proxies_serve_clients_and_operator_but_never_comfyui() {
    let (proxy, lines) = server().await;
    let (direct, direct_lines) = server().await;
    let proxy_url = format!("http://127.0.0.1:{proxy}");
    let outbound = outbound(&[
        ("HTTP_PROXY", &proxy_url),
        ("NO_PROXY", "direct.example,127.0.0.1"),
    ]);
    assert_eq!(
        get(outbound.guarded(), "http://files.invalid/a").await,
        Ok(200)
    );
    assert_eq!(
        get(outbound.operator(), "http://files.invalid/b").await,
        Ok(200)
    );
    assert!(
        get(outbound.comfyui(), "http://files.invalid/c")
            .await
            .unwrap_err()
            .starts_with("network")
    );
    assert_eq!(
        *lines.lock(),
        [
            "GET http://files.invalid/a HTTP/1.1",
            "GET http://files.invalid/b HTTP/1.1"
        ]
    );
    assert_eq!(
        get(outbound.operator(), &format!("http://127.0.0.1:{direct}/d")).await,
        Ok(200)
    );
    assert_eq!(*direct_lines.lock(), ["GET /d HTTP/1.1"]);
    // The guard holds behind a proxy too.
    let guarded = self::outbound(&[("HTTP_PROXY", &proxy_url)]);
    assert!(
        get(guarded.guarded(), &format!("http://127.0.0.1:{direct}/e"))
            .await
            .unwrap_err()
            .contains("HTTP_TRUSTED_ORIGINS")
    );
    let url = Url::parse(&format!("http://localhost:{direct}/f")).unwrap();
    let followed = redirect::send_guarded(
        &guarded,
        axum::http::Method::GET,
        &url,
        &Default::default(),
        &Default::default(),
    )
    .await;
    assert!(refusal_of(&followed.unwrap_err()).is_some());
    assert_eq!(lines.lock().len(), 2);
}

#[tokio::test]
async fn names_resolve_without_the_c_library() {
    assert!(
        resolve("localhost")
            .await
            .unwrap()
            .iter()
            .all(IpAddr::is_loopback)
    );
    assert_eq!(
        resolve("[::1]").await.unwrap(),
        ["::1".parse::<IpAddr>().unwrap()]
    );
    let error = resolve("there-is-no-such-host.invalid").await.unwrap_err();
    assert!(error.to_string().contains("there-is-no-such-host.invalid"));
}

#[test]
fn another_ca_file_is_read_or_named() {
    let error =
        tls::client_config(with_ca(std::path::Path::new("/nonexistent/ca.pem"))).unwrap_err();
    assert!(error.contains("/nonexistent/ca.pem"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, "nothing").unwrap();
    assert!(
        tls::client_config(with_ca(&path))
            .unwrap_err()
            .contains("no certificate")
    );
}

#[cfg(target_feature = "crt-static")]
#[test]
fn the_c_library_is_not_asked_for_names() {
    use std::net::ToSocketAddrs;
    install_crypto();
    let error = ("localhost", 80).to_socket_addrs().unwrap_err();
    assert!(
        error.to_string().contains("not part of this binary"),
        "{error}"
    );
}

fn with_ca(path: &std::path::Path) -> tls::Extras<'_> {
    tls::Extras {
        ca_file: Some(path),
        ..tls::Extras::default()
    }
}
