//! Listening: dual stack where there is IPv6, no delay on small writes, HTTP/1.1 and HTTP/2 without TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;

/// Connections that may wait to be accepted; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// A connection on which no request begins, or none gets beyond its headers, for so long is closed: whoever opens many and says nothing
/// must not use up the descriptors.
const QUIET: Duration = Duration::from_secs(75);
/// Between two looks at a beginning that tells nothing yet.
const NEXT_LOOK: Duration = Duration::from_millis(20);

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

/// Binds `HOST`:`PORT`. `::` means IPv4 too; without IPv6 in the system it means IPv4 alone.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(config: &ServerConfig) -> io::Result<Listener> {
    let host = config.host.trim_matches(['[', ']']);
    let listener = match crate::net::bind_addresses(host, config.port).await {
        Ok(addresses) => bind_first(&addresses).await?,
        Err(error) => return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, error)),
    };
    Ok(Listener { listener })
}

async fn bind_first(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut last = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "HOST resolves to no address",
    );
    for address in addresses {
        match listen(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `::` takes IPv4 too whatever the system's default is (`net.ipv6.bindv6only`); a particular address is just that address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A server that was just stopped may be started again at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop; then takes no new connections and lets the answers under way end.
    pub async fn serve(mut self, router: Router, stop: CancellationToken) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(QUIET);
        let connections = GracefulShutdown::new();
        loop {
            let stream = tokio::select! {
                // What goes wrong with one connection, or for a while, ends nothing: that is dealt with inside.
                (stream, _) = axum::serve::Listener::accept(&mut self.listener) => stream,
                () = stop.cancelled() => break,
            };
            let _ = stream.set_nodelay(true);
            tokio::spawn(converse(
                stream,
                builder.clone(),
                router.clone(),
                connections.watcher(),
                stop.clone(),
            ));
        }
        drop(self.listener);
        connections.shutdown().await;
    }
}

/// Waits until the first bytes tell HTTP/1.1 from HTTP/2; `false` when they never will.
async fn tells_version(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    let mut before = 0;
    loop {
        match stream.peek(&mut first).await {
            Ok(count)
                if count == PREFACE.len() || count > 0 && !PREFACE.starts_with(&first[..count]) =>
            {
                return true;
            }
            Ok(0) | Err(_) => return false,
            // Looking does not take the bytes away, so the next look would not wait.
            Ok(count) if count == before => tokio::time::sleep(NEXT_LOOK).await,
            Ok(count) => before = count,
        }
    }
}

/// One connection, from its first byte to its end.
async fn converse(
    stream: TcpStream,
    builder: Builder<TokioExecutor>,
    router: Router,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let spoken = tokio::select! {
        // The builder itself waits for ever for the bytes that tell the version.
        spoken = timeout(QUIET, tells_version(&stream)) => spoken.unwrap_or(false),
        () = stop.cancelled() => false,
    };
    if spoken {
        let connection = builder
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .into_owned();
        // A client that breaks off has nobody to complain to.
        let _ = watcher.watch(connection).await;
    }
}
