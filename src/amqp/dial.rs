//! A connection to the broker: resolve, TCP, TLS, the AMQP handshake, each under a deadline.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::Runtime;
use async_rs::traits::Reactor;
use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::error::chain;

/// For each address.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// For TLS, and again for the handshake of AMQP.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Seconds between heartbeats of the protocol: a silent broker is noticed after two.
const PROTOCOL_HEARTBEAT_S: u16 = 20;

/// A connection whose socket is closed for certain when this is dropped: lapin's thread would otherwise wait for a peer
/// that has stopped to answer.
pub(super) struct Link {
    pub(super) connection: Connection,
    _socket: SocketGuard,
}

/// A second handle of the socket.
struct SocketGuard(std::net::TcpStream);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // Fails when the socket is closed already, which is what is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Parses the URI. An empty virtual host means `/`, as in the Node server's client.
///
/// # Errors
/// A sentence without the URI, which holds the password.
pub(super) fn parse_uri(uri: &str) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = uri.parse().map_err(|_| "AMQP_URL cannot be understood: write it like amqp://user:password@host:5672/vhost".to_owned())?;
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(PROTOCOL_HEARTBEAT_S);
    Ok(uri)
}

/// `host:port` and the virtual host, for logs.
pub(super) fn public_name(uri: &AMQPUri) -> String {
    let vhost = if uri.vhost == "/" { "" } else { &uri.vhost };
    format!("{}:{}/{vhost}", uri.authority.host, uri.authority.port)
}

/// Connects.
///
/// # Errors
/// One sentence without secrets.
pub(super) async fn dial(uri: &AMQPUri, ca_file: Option<&Path>, name: &str) -> Result<Link, String> {
    let host = uri.authority.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = resolve(host, uri.authority.port).await?;
    let runtime = Runtime::tokio_current();
    let mut stream = Err("its name has no address".to_owned());
    for address in addresses {
        stream = match timeout(TCP_TIMEOUT, runtime.tcp_connect_addr(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {} s", TCP_TIMEOUT.as_secs())),
        };
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream?;
    let socket = stream.get_ref().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let socket = SocketGuard(socket.into());
    let mut stream = AsyncTcpStream::Plain(stream);
    if uri.scheme == AMQPScheme::AMQPS {
        let connector = tls(ca_file).await?;
        stream = timeout(HANDSHAKE_TIMEOUT, stream.into_rustls(&connector, host))
            .await
            .map_err(|_| "the TLS handshake was not answered".to_owned())?
            .map_err(|error| format!("TLS failed: {}", chain(&error)))?;
    }
    // lapin takes a function that connects; it gets the stream that is there already, once.
    let stream = Mutex::new(Some(stream));
    let connect = async move |_: AMQPUri, _| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = timeout(HANDSHAKE_TIMEOUT, Connection::connector(uri.clone(), runtime, connect, properties))
        .await
        .map_err(|_| "the broker did not answer the handshake".to_owned())?
        .map_err(|error| describe(&error))?;
    Ok(Link { connection, _socket: socket })
}

/// What lapin says, in one line. Its texts hold what the broker said, never credentials.
pub(super) fn describe(error: &lapin::Error) -> String {
    chain(error)
}

/// Addresses of a host, never through the C library (dependencies.md, 2.3).
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)]);
    }
    let resolver = hickory_resolver::TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build).map_err(|error| chain(&error))?;
    let found = timeout(HANDSHAKE_TIMEOUT, resolver.lookup_ip(host)).await.map_err(|_| "its name was not resolved in time".to_owned())?;
    let found = found.map_err(|error| format!("its name cannot be resolved: {}", chain(&error)))?;
    Ok(found.iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// The system's roots (the Mozilla ones where the image has none) and `AMQP_CA_FILE`, read anew for each connection so that
/// a renewed file counts.
async fn tls(ca_file: Option<&Path>) -> Result<RustlsConnector, String> {
    let ca_file = ca_file.map(Path::to_path_buf);
    let config = tokio::task::spawn_blocking(move || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(path) = ca_file {
            let problem = |what: String| format!("AMQP_CA_FILE {} {what}", path.display());
            let pem = std::fs::read(&path).map_err(|error| problem(format!("cannot be read: {error}")))?;
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(problem("holds no PEM certificate".to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    });
    config.await.map_err(|error| error.to_string())?.map(RustlsConnector::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_brokers_hide_the_password() {
        let name = |uri: &str| public_name(&parse_uri(uri).unwrap());
        assert_eq!(name("amqp://me:marked@broker.example"), "broker.example:5672/");
        assert_eq!(name("amqps://me:marked@broker.example:9/"), "broker.example:9/");
        assert_eq!(name("amqps://me:marked@broker.example/team%2fa"), "broker.example:5671/team/a");
        assert!(!parse_uri("http://me:marked@h").unwrap_err().contains("marked"));
    }
}
