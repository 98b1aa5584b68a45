//! Listening: dual stack where there is IPv6, no delay on small writes, HTTP/1.1 and HTTP/2 without TLS.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;

/// Connections that may wait to be accepted; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;

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
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "HOST resolves to no address");
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
    ///
    /// # Errors
    /// When accepting fails for good.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> io::Result<()> {
        let listener = self.listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}
