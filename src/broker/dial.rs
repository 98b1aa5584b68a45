//! A connection to the broker: resolve, TCP, TLS, the AMQP handshake, each under a deadline.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use async_rs::Runtime;
use async_rs::traits::Reactor;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::config::AmqpTlsConfig;
use crate::error::chain;
use crate::net;

/// For each address.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// For TLS, and again for the handshake of AMQP.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Seconds between heartbeats of the protocol: a silent broker is noticed after two.
const PROTOCOL_HEARTBEAT_S: u16 = 20;
/// Bytes of a frame, at most. lapin's buffers have room for 32 of them in each direction: with the
/// 128 KiB that brokers offer they would be 8 MiB.
const FRAME: u32 = 32 * 1024;

/// A connection whose socket is closed for certain when this is dropped: lapin's thread would
/// otherwise wait for a peer that has stopped to answer.
pub struct Link {
    pub connection: Connection,
    /// Our side of it.
    pub local: Option<std::net::IpAddr>,
    socket: SocketGuard,
}

impl Link {
    /// Closes the socket now, whoever still holds the connection.
    pub fn cut(&self) {
        self.socket.cut();
    }
}

/// A second handle of the socket.
struct SocketGuard(std::net::TcpStream);

impl SocketGuard {
    fn cut(&self) {
        // Fails when the socket is closed already, which is what is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Parses the URI. An empty virtual host means `/`, as in the Node server's client.
///
/// # Errors
/// A sentence without the URI, which holds the password.
pub fn parse_uri(uri: &str) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = uri.parse().map_err(|_| {
        "AMQP_URL cannot be understood: write it like amqp://user:password@host:5672/vhost"
            .to_owned()
    })?;
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(PROTOCOL_HEARTBEAT_S);
    uri.query.frame_max.get_or_insert(FRAME);
    Ok(uri)
}

/// `host:port` and the virtual host, for logs.
pub fn public_name(uri: &AMQPUri) -> String {
    let vhost = if uri.vhost == "/" { "" } else { &uri.vhost };
    format!("{}:{}/{vhost}", uri.authority.host, uri.authority.port)
}

/// Connects.
///
/// # Errors
/// One sentence without secrets.
pub async fn dial(uri: &AMQPUri, tls: &AmqpTlsConfig, name: &str) -> Result<Link, String> {
    let runtime = Runtime::tokio_current();
    let (stream, socket) = stream(uri, tls).await?;
    let local = socket.0.local_addr().ok().map(|address| address.ip());
    // lapin takes a function that connects; it gets the stream that is there already, once.
    let stream = Mutex::new(Some(stream));
    let connect = async move |_: AMQPUri, _| {
        let taken = stream.lock().take();
        taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = timeout(
        HANDSHAKE_TIMEOUT,
        Connection::connector(uri.clone(), runtime, connect, properties),
    )
    .await
    .map_err(|_| "the broker did not answer the handshake".to_owned())?
    .map_err(|error| describe(&error))?;
    Ok(Link {
        connection,
        local,
        socket,
    })
}

/// What lapin's runtime connects with.
type Stream = <async_rs::Tokio as Reactor>::TcpStream;

/// A connection below AMQP.
async fn stream(
    uri: &AMQPUri,
    tls: &AmqpTlsConfig,
) -> Result<(AsyncTcpStream<Stream>, SocketGuard), String> {
    let host = uri
        .authority
        .host
        .trim_start_matches('[')
        .trim_end_matches(']');
    let addresses = net::resolve(host)
        .await
        .map_err(|error| error.to_string())?;
    let runtime = Runtime::tokio_current();
    let mut stream = Err("its name has no address".to_owned());
    for address in addresses {
        let address = SocketAddr::new(address, uri.authority.port);
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
    let socket = stream
        .get_ref()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| error.to_string())?;
    let socket = SocketGuard(socket.into());
    // A result, its acknowledgement and the next task are small messages that wait for each other:
    // with Nagle's algorithm each would wait for the other side's delayed acknowledgement too.
    let _ = socket.0.set_nodelay(true);
    let mut stream = AsyncTcpStream::Plain(stream);
    if uri.scheme == AMQPScheme::AMQPS {
        let connector = connector(tls).await?;
        let server_name = tls.server_name.as_deref().unwrap_or(host);
        stream = timeout(
            HANDSHAKE_TIMEOUT,
            stream.into_rustls(&connector, server_name),
        )
        .await
        .map_err(|_| "the TLS handshake was not answered".to_owned())?
        .map_err(|error| format!("TLS failed: {}", chain(&error)))?;
    }
    Ok((stream, socket))
}

/// For a broker's first word.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// The protocol's own header: 0-9-1.
const PROTOCOL: &[u8] = b"AMQP\x00\x00\x09\x01";

/// The version that the broker says it has, such as `4.1.0`. lapin does not tell it, so it is asked
/// on a connection of its own that goes no further than the broker's first word.
pub async fn version(uri: &AMQPUri, tls: &AmqpTlsConfig) -> Option<String> {
    let asking = async {
        let (mut stream, _socket) = stream(uri, tls).await.ok()?;
        stream.write_all(PROTOCOL).await.ok()?;
        stream.flush().await.ok()?;
        let mut said = Vec::new();
        let mut some = [0; 4096];
        while said.len() < 64 * 1024 {
            let read = stream.read(&mut some).await.ok()?;
            if read == 0 {
                return None;
            }
            said.extend_from_slice(&some[..read]);
            if let Some(version) = version_in(&said) {
                return Some(version);
            }
        }
        None
    };
    timeout(FIRST_WORD, asking).await.ok().flatten()
}

/// The long string `version` in the table of the server's properties.
fn version_in(said: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = said.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(said.get(at..at + 4)?.try_into().ok()?);
    let text = said.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// What lapin says, in one line. Its texts hold what the broker said, never credentials.
pub fn describe(error: &lapin::Error) -> String {
    chain(error)
}

/// Built anew for each connection, so that renewed files count.
async fn connector(tls: &AmqpTlsConfig) -> Result<RustlsConnector, String> {
    let tls = tls.clone();
    let config = tokio::task::spawn_blocking(move || {
        net::tls::client_config(net::tls::Extras {
            ca_file: tls.ca_file.as_deref(),
            identity: tls
                .identity
                .as_ref()
                .map(|(certificate, key)| (certificate.as_path(), key.as_path())),
            any_certificate: tls.any_certificate,
        })
    });
    config
        .await
        .map_err(|error| error.to_string())?
        .map(RustlsConnector::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_first_word() {
        let said = b"\x01\x00\x00....\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x09platform";
        assert_eq!(version_in(said).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(said.get(..30).unwrap()), None);
    }

    #[test]
    fn names_of_brokers_hide_the_password() {
        let name = |uri: &str| public_name(&parse_uri(uri).unwrap());
        assert_eq!(
            name("amqp://me:marked@broker.example"),
            "broker.example:5672/"
        );
        assert_eq!(
            name("amqps://me:marked@broker.example:9/"),
            "broker.example:9/"
        );
        assert_eq!(
            name("amqps://me:marked@broker.example/team%2fa"),
            "broker.example:5671/team/a"
        );
        assert!(
            !parse_uri("http://me:marked@h")
                .unwrap_err()
                .contains("marked")
        );
    }
}
