//! The one line for people when the server is ready (faults.md, U7): where to look, as it can be
//! opened.

use std::net::{IpAddr, SocketAddr};

use super::App;
use crate::config::LogFormat;
use crate::telemetry::logging::tell_people;

/// Says where the documentation is, where somebody reads the log. Who plays with the demo gets it
/// on the standard error when the log goes into a file.
pub(super) fn greet(app: &App) {
    let Some(address) = app.address.get() else {
        return;
    };
    let base = address_for_people(&app.config.server.host, *address);
    let console = match app.config.server.console {
        true => format!("its console: {base}/, "),
        false => String::new(),
    };
    let line = format!("The API is ready; {console}its documentation: {base}/docs");
    if !tell_people(&line) && app.config.demo && app.config.log.format != LogFormat::Json {
        // Whoever does not read must not hold us up.
        std::thread::spawn(move || eprintln!("{line}"));
    }
}

fn address_for_people(host: &str, address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        ip if ip.is_unspecified() => format!("http://localhost:{port}"),
        _ if host.parse::<IpAddr>().is_err() && !host.starts_with('[') => {
            format!("http://{host}:{port}")
        }
        IpAddr::V6(ip) => format!("http://[{ip}]:{port}"),
        IpAddr::V4(ip) => format!("http://{ip}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::address_for_people;

    #[test]
    fn addresses_can_be_opened() {
        for (host, address, shown) in [
            ("::", "[::]:3000", "http://localhost:3000"),
            ("0.0.0.0", "0.0.0.0:80", "http://localhost:80"),
            ("127.0.0.1", "127.0.0.1:8", "http://127.0.0.1:8"),
            ("::1", "[::1]:8", "http://[::1]:8"),
            ("gpu.local", "10.0.0.7:8", "http://gpu.local:8"),
        ] {
            assert_eq!(address_for_people(host, address.parse().unwrap()), shown);
        }
    }
}
