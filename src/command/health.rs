//! `comfyui-api health [--ready]`: asks the server that runs on this machine, for a container's
//! HEALTHCHECK without curl.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::ServerConfig;
use crate::error::chain;
use crate::net::install_crypto;

/// A healthy server answers within milliseconds; Docker's own limit is 30 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `/health`, or `/ready`, at `HOST`:`PORT`. Prints one line and returns the exit code: 0 for
/// a success, else 1.
///
/// # Errors
/// When `out` cannot be written to.
pub async fn run(
    config: &ServerConfig,
    ready: bool,
    out: &mut (dyn Write + Send),
) -> io::Result<u8> {
    install_crypto();
    let path = if ready { "ready" } else { "health" };
    let client = match reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
    {
        Ok(client) => client,
        Err(error) => {
            writeln!(out, "{path}: {}", chain(&error))?;
            return Ok(1);
        }
    };
    let mut last = String::new();
    for host in hosts(&config.host) {
        let url = format!("http://{host}:{}/{path}", config.port);
        match client.get(&url).send().await {
            Ok(response) => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                writeln!(out, "{path}: {status} {}", body.trim())?;
                return Ok(u8::from(!status.is_success()));
            }
            Err(error) => last = chain(&error),
        }
    }
    writeln!(out, "{path}: no answer on port {} ({last})", config.port)?;
    Ok(1)
}

/// Where a server that listens on `host` can be reached from this machine.
fn hosts(host: &str) -> Vec<String> {
    match host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        // `::` takes IPv4 too; where IPv6 is switched off only that is left.
        Ok(address) if address.is_unspecified() => vec!["127.0.0.1".to_owned(), "[::1]".to_owned()],
        Ok(IpAddr::V6(address)) => vec![format!("[{address}]")],
        Ok(IpAddr::V4(address)) => vec![address.to_string()],
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            vec!["127.0.0.1".to_owned(), "[::1]".to_owned()]
        }
        Err(_) => vec![host.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;
    use crate::config::Config;

    async fn ask(host: &str, port: u16, ready: bool) -> (u8, String) {
        let env = std::collections::BTreeMap::from([
            ("HOST".to_owned(), host.to_owned()),
            ("PORT".to_owned(), port.to_string()),
        ]);
        let mut out = Vec::new();
        let code = run(&Config::from_env(&env).unwrap().server, ready, &mut out)
            .await
            .unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn the_exit_code_is_the_servers_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/health", get(|| async { "fine" }))
            .route(
                "/ready",
                get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "warming up") }),
            );
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        for host in ["::", "0.0.0.0", "127.0.0.1", "localhost"] {
            assert_eq!(
                ask(host, port, false).await,
                (0, "health: 200 OK fine\n".to_owned()),
                "{host}"
            );
        }
        assert_eq!(
            ask("::", port, true).await,
            (1, "ready: 503 Service Unavailable warming up\n".to_owned())
        );
        server.abort();
        let _ = server.await;
        let (code, text) = ask("127.0.0.1", port, false).await;
        assert!(code == 1 && text.contains("no answer"), "{text}");
    }
}
