//! Listening: dual stack where there is IPv6, no delay on small writes, HTTP/1.1 and HTTP/2 without
//! TLS, and the same limits for both, so that nobody keeps a connection who says nothing or reads
//! nothing (attack.md, A04, A19, A50).

mod activity;
mod crowd;
mod pace;
mod stream;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use futures_util::TryFutureExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::activity::Activity;
use self::crowd::{Crowd, Place};
use self::pace::PacedBody;
use self::stream::{PatientStream, begin};
use crate::config::ServerConfig;
use crate::net::held_body::HeldBody;
use crate::telemetry::trace::{self, RequestTrace};

/// Connections that may wait to be accepted; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// A connection on which no request begins, none gets beyond its headers, or nothing can be sent
/// for so long is closed: whoever opens many and says nothing, or reads nothing, must not use up
/// descriptors and files.
const QUIET: Duration = Duration::from_secs(75);
/// HTTP/2 is asked for a sign of life so often, and has so long for it.
const PING: Duration = Duration::from_secs(20);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 200;
/// How long an HTTP/2 connection that was told to end may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Until the next try when there is no descriptor for a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(20);

/// Where a request comes from; in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

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

/// `::` takes IPv4 too whatever the system's default is (`net.ipv6.bindv6only`); a particular
/// address is just that address.
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
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let versions = Arc::new(Versions::new());
        let crowd = Crowd::of_this_process();
        let connections = TaskTracker::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&self.listener, &crowd) => accepted,
                () = stop.cancelled() => break,
            };
            // Without a place it is closed at once.
            let Some(place) = crowd.enter() else { continue };
            let _ = stream.set_nodelay(true);
            connections.spawn(converse(
                stream,
                place,
                Peer(peer.ip()),
                versions.clone(),
                router.clone(),
                stop.clone(),
            ));
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection. What goes wrong with one, or for a while, ends nothing.
async fn accept(listener: &TcpListener, crowd: &Crowd) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => {
                debug!(%error, "a connection cannot be accepted");
                crowd.make_room();
                sleep(NO_DESCRIPTOR).await;
            }
        }
    }
}

/// What speaks with clients, by the version that a connection begins with.
struct Versions {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Versions {
    fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(QUIET)
            // Who goes is noticed by the stream.
            .half_close(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS);
        Self { http1, http2 }
    }
}

/// One connection, from its first byte to its end.
async fn converse(
    mut stream: TcpStream,
    place: Arc<Place>,
    peer: Peer,
    versions: Arc<Versions>,
    router: Router,
    stop: CancellationToken,
) {
    let begun = tokio::select! {
        begun = timeout(QUIET, begin(&mut stream)) => begun.ok().flatten(),
        () = stop.cancelled() => None,
        () = place.over.cancelled() => None,
    };
    let Some(beginning) = begun else { return };
    let http2 = beginning.http2;
    let activity = Arc::new(Activity::default());
    let stream = PatientStream::new(stream, beginning, activity.clone(), QUIET);
    let stream = TokioIo::new(stream);
    let counted = http2.then(|| activity.clone());
    let service = service(
        TowerToHyperService::new(router),
        peer,
        place.clone(),
        counted,
    );
    if http2 {
        // The rare one: its room is not that of all.
        Box::pin(async {
            let connection = versions.http2.serve_connection(stream, service);
            until_over(pin!(connection), activity.idle(QUIET), &stop, &place).await;
        })
        .await;
    } else {
        let connection = versions.http1.serve_connection(stream, service);
        until_over(pin!(connection), pending(), &stop, &place).await;
    }
}

/// Answers the requests of a connection; where several may be under way at once they are `counted`.
fn service(
    router: TowerToHyperService<Router>,
    peer: Peer,
    place: Arc<Place>,
    counted: Option<Arc<Activity>>,
) -> impl Service<
    Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send + 'static,
> {
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let under_way = counted.as_ref().map(Activity::request);
        let tracing = RequestTrace::begin(&request);
        let exchange = place.exchange();
        let answering = router.call(request.map(|body| PacedBody::new(body, exchange.clone())));
        trace::scope(tracing.context(), answering).map_ok(move |response| {
            let response = tracing.answered(response);
            let response = response.map(|body| HeldBody::of(body, exchange));
            match under_way {
                Some(under_way) => response.map(|body| under_way.answer(body)),
                None => response,
            }
        })
    })
}

/// Until the client goes, has been idle for too long, or has to leave.
async fn until_over(
    mut connection: Pin<&mut impl GracefulConnection>,
    idle: impl Future<Output = ()>,
    stop: &CancellationToken,
    place: &Place,
) {
    tokio::select! {
        // A client that breaks off has nobody to complain to.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        () = place.over.cancelled() => return,
        () = idle => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(GOODBYE, connection).await;
}
