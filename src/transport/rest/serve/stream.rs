//! A connection's bytes: what was read to tell the version comes first again, who does not read is
//! not waited for for ever, and who goes is noticed.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection.
pub(super) struct Beginning {
    bytes: Vec<u8>,
    /// They are the preface of HTTP/2.
    pub http2: bool,
}

/// Reads until it is clear which version is spoken; `None` when the client goes before that.
pub(super) async fn begin(stream: &mut TcpStream) -> Option<Beginning> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        let room = u64::try_from(PREFACE.len() - bytes.len()).ok()?;
        if (&mut *stream).take(room).read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let http2 = bytes == PREFACE;
    Some(Beginning { bytes, http2 })
}

/// The stream of a connection that has begun.
pub(super) struct PatientStream {
    stream: TcpStream,
    beginning: Vec<u8>,
    replayed: usize,
    /// HTTP/2 reads all the time, and notices by itself who goes.
    http2: bool,
    activity: Arc<Activity>,
    patience: Duration,
    /// Runs while nothing can be sent.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl PatientStream {
    /// Nothing that can be sent for `patience` ends the connection.
    pub fn new(
        stream: TcpStream,
        beginning: Beginning,
        activity: Arc<Activity>,
        patience: Duration,
    ) -> Self {
        Self {
            stream,
            beginning: beginning.bytes,
            replayed: 0,
            http2: beginning.http2,
            activity,
            patience,
            blocked: None,
        }
    }

    /// Whether the client of HTTP/1.1 has gone while nothing is read from it. Asked without taking
    /// anything: to find that out by reading, hyper would double its buffer for each answer that is
    /// waited for, and keep it.
    fn still_there(&self, context: &mut Context<'_>) -> io::Result<()> {
        if self.http2 {
            return Ok(());
        }
        let mut byte = [0];
        match self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the client has gone",
            )),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Notes what came of a try to send.
    fn tried(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.blocked = None;
                self.activity.moved(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                self.still_there(context)?;
                let deadline = Instant::now() + self.patience;
                let blocked = self
                    .blocked
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(blocked.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client does not read what it is sent",
                )))
            }
        }
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this
            .beginning
            .get(this.replayed..)
            .filter(|rest| !rest.is_empty())
        {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            this.replayed += count;
            // With what has come meanwhile: a reader that gets little asks for more room, and keeps
            // it. What goes wrong here goes wrong once more at the next try.
            if buffer.remaining() > 0 {
                let _ = Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.tried(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.tried(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where hyper comes by whenever something has happened, also while it waits for an answer.
        self.still_there(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        (client.unwrap(), accepted.unwrap().0)
    }

    /// A50
    #[tokio::test]
    async fn every_beginning_is_kept_and_an_ended_one_is_let_go() {
        for cut in 1..=PREFACE.len() {
            let (mut client, mut server) = pair().await;
            let beginning = &PREFACE[..cut];
            client.write_all(beginning).await.unwrap();
            let rest: &[u8] = if cut == PREFACE.len() {
                b"frames"
            } else {
                b"!else"
            };
            client.write_all(rest).await.unwrap();
            let begun = begin(&mut server).await.unwrap();
            assert_eq!(begun.http2, cut == PREFACE.len());
            let mut stream =
                PatientStream::new(server, begun, Arc::default(), Duration::from_secs(60));
            let mut read = vec![0; cut + rest.len()];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [beginning, rest].concat());
        }
        let (mut client, mut server) = pair().await;
        client.write_all(b"P").await.unwrap();
        drop(client);
        assert!(begin(&mut server).await.is_none());
    }

    #[tokio::test]
    async fn who_goes_is_noticed_although_nothing_is_read_and_what_was_sent_on_is_not_taken() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"GET").await.unwrap();
        let begun = begin(&mut server).await.unwrap();
        let mut stream = PatientStream::new(server, begun, Arc::default(), Duration::from_secs(60));
        let mut read = [0; 3];
        stream.read_exact(&mut read).await.unwrap();
        stream.flush().await.unwrap();
        client.write_all(b"more").await.unwrap();
        stream.stream.readable().await.unwrap();
        stream.flush().await.unwrap();
        let mut more = [0; 4];
        stream.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
        let gone = poll_fn(|context| match Pin::new(&mut stream).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        });
        let leaving = async {
            sleep(Duration::from_millis(20)).await;
            drop(client);
        };
        let both = timeout(Duration::from_secs(60), async {
            tokio::join!(gone, leaving)
        });
        assert_eq!(both.await.unwrap().0.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A19
    #[tokio::test]
    async fn who_does_not_read_is_given_up_and_who_reads_slowly_is_not() {
        let patience = Duration::from_millis(300);
        let whole = vec![7; 32 << 20];
        for reads in [false, true] {
            let (mut client, mut server) = pair().await;
            client.write_all(b"GET").await.unwrap();
            let begun = begin(&mut server).await.unwrap();
            let mut stream = PatientStream::new(server, begun, Arc::default(), patience);
            let reading = async {
                let mut buffer = vec![0; 1 << 20];
                while reads && client.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                client
            };
            let writing = async {
                let written = stream.write_all(&whole).await;
                drop(stream);
                written
            };
            let (written, _client) = tokio::join!(writing, reading);
            match (reads, written) {
                (true, Ok(())) => {}
                (false, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
                (_, written) => panic!("reads: {reads}, {written:?}"),
            }
        }
    }
}
