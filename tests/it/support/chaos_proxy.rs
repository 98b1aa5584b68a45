//! A TCP proxy that misbehaves on demand: cuts connections, freezes them, refuses new ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Freeze,
    Refuse,
}

struct Controls {
    mode: watch::Sender<Mode>,
    /// Connections made under an older number are cut.
    era: watch::Sender<u64>,
    /// Bytes from clients until everything is cut; below zero: no limit.
    fuse: AtomicI64,
    connections: AtomicU64,
}

/// The proxy; it ends when it is dropped.
pub struct ChaosProxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    listener: AbortHandle,
}

impl ChaosProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let controls = Arc::new(Controls {
            mode: watch::Sender::new(Mode::Pass),
            era: watch::Sender::new(0),
            fuse: AtomicI64::new(-1),
            connections: AtomicU64::new(0),
        });
        let serving = Arc::clone(&controls);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *serving.mode.borrow() != Mode::Refuse {
                    tokio::spawn(carry(client, upstream, Arc::clone(&serving)));
                }
            }
        });
        Self {
            address,
            controls,
            listener: listener.abort_handle(),
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection that is open now; new ones are welcome.
    pub fn cut(&self) {
        self.controls.era.send_modify(|era| *era += 1);
    }

    /// Closes everything after so many more bytes from clients: in the middle of whatever they say.
    pub fn cut_after(&self, bytes: u32) {
        self.controls.fuse.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// Bytes stop in both directions; connections stay open.
    pub fn freeze(&self) {
        self.controls.mode.send_replace(Mode::Freeze);
    }

    /// Closes what is open and whatever comes.
    pub fn refuse(&self) {
        self.controls.mode.send_replace(Mode::Refuse);
        self.cut();
    }

    /// Behaves again.
    pub fn pass(&self) {
        self.controls.mode.send_replace(Mode::Pass);
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.controls.connections.load(Ordering::SeqCst)
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, controls: Arc<Controls>) {
    let mut era = controls.era.subscribe();
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    controls.connections.fetch_add(1, Ordering::SeqCst);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pump(client_read, server_write, &controls, true) => {}
        () = pump(server_read, client_write, &controls, false) => {}
        _ = era.changed() => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    controls: &Controls,
    burns: bool,
) {
    let mut mode = controls.mode.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(mut read) = from.read(&mut buffer).await {
        if read == 0 || mode.wait_for(|mode| *mode != Mode::Freeze).await.is_err() {
            return;
        }
        if burns && controls.fuse.load(Ordering::SeqCst) >= 0 {
            let length = i64::try_from(read).unwrap();
            let left = controls.fuse.fetch_sub(length, Ordering::SeqCst) - length;
            if left < 0 {
                read = usize::try_from(length + left).unwrap_or(0);
                let _ = to.write_all(&buffer[..read]).await;
                controls.fuse.store(-1, Ordering::SeqCst);
                controls.era.send_modify(|era| *era += 1);
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
