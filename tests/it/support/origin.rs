//! A web server with faults, spoken byte by byte so that it can lie: truncate, stall, flap,
//! redirect, change its mind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Start and inclusive end of a `Range` header.
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let (start, end) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((start.parse().ok()?, end.parse().ok()))
    }
}

/// What the server does with a request.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Arc<Vec<u8>>,
    /// Claims another length than the body has.
    pub claimed_length: Option<usize>,
    /// Sends only so many bytes of the body, then closes.
    pub cut_after: Option<usize>,
    /// After so many bytes it goes silent until the peer leaves.
    pub stall_after: Option<usize>,
    /// Before the answer.
    pub delay: Option<Duration>,
    /// No more than so many bytes every 5 ms.
    pub trickle: Option<usize>,
    /// No `Content-Length`: the end of the connection is the end of the body.
    pub until_close: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: Arc::new(body.into()),
            ..Self::default()
        }
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("Location", to)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A file as a good server serves it: ranges, etag, `If-Range`.
    pub fn file(request: &Request, body: &Arc<Vec<u8>>, etag: &str) -> Self {
        let current = request
            .header("if-range")
            .is_none_or(|wanted| wanted == etag);
        let reply = Self::status(200)
            .with("ETag", etag)
            .with("Accept-Ranges", "bytes");
        match request.range().filter(|_| current) {
            Some((start, _)) if start >= body.len() => {
                Self::status(416).with("Content-Range", format!("bytes */{}", body.len()))
            }
            Some((start, end)) => {
                let end = end.unwrap_or(body.len() - 1).min(body.len() - 1);
                let part = Arc::new(body[start..=end].to_vec());
                Self {
                    status: 206,
                    body: part,
                    ..reply
                }
                .with(
                    "Content-Range",
                    format!("bytes {start}-{end}/{}", body.len()),
                )
            }
            None => Self {
                body: Arc::clone(body),
                ..reply
            },
        }
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A running server. It ends with the test's runtime.
#[derive(Clone)]
pub struct Origin {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    open: Arc<AtomicUsize>,
    most_open: Arc<AtomicUsize>,
}

impl Origin {
    /// Serves what the handler says; it is told the request and how many came before it.
    pub async fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            open: Arc::default(),
            most_open: Arc::default(),
        };
        let (handler, serving): (Arc<Handler>, _) = (Arc::new(handler), origin.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, serving) = (Arc::clone(&handler), serving.clone());
                tokio::spawn(async move {
                    let _ = serving.connection(stream, &*handler).await;
                });
            }
        });
        origin
    }

    /// A URL on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests of a method came.
    pub fn count(&self, method: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.method == method)
            .count()
    }

    /// The most answers that were under way at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most_open.load(Ordering::SeqCst)
    }

    /// Answers under way now.
    pub fn open_now(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub async fn wait_for(&self, count: usize) {
        super::storage::until("the origin is asked", || self.requests().len() >= count).await;
    }

    async fn connection(&self, stream: TcpStream, handler: &Handler) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream).await? {
            let before = {
                let mut requests = self.requests.lock().unwrap();
                requests.push(request.clone());
                requests.len() - 1
            };
            let reply = handler(&request, before);
            let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(now, Ordering::SeqCst);
            let keep = answer(&mut stream, &request, &reply).await;
            self.open.fetch_sub(1, Ordering::SeqCst);
            if !keep? {
                break;
            }
        }
        Ok(())
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request {
        method,
        target,
        headers,
        body,
    }))
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    request: &Request,
    reply: &Reply,
) -> std::io::Result<bool> {
    if let Some(delay) = reply.delay {
        tokio::time::sleep(delay).await;
    }
    let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
    if !reply.until_close {
        head += &format!(
            "Content-Length: {}\r\n",
            reply.claimed_length.unwrap_or(reply.body.len())
        );
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method != "HEAD" {
        let length = [reply.cut_after, reply.stall_after]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(reply.body.len());
        let body = &reply.body[..length.min(reply.body.len())];
        for part in body.chunks(reply.trickle.unwrap_or(1 << 20).max(1)) {
            stream.write_all(part).await?;
            stream.flush().await?;
            if reply.trickle.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        stream.flush().await?;
        if reply.stall_after.is_some() {
            let _ = stream.read_u8().await;
            return Ok(false);
        }
        if reply.cut_after.is_some() || reply.until_close || reply.claimed_length.is_some() {
            return Ok(false);
        }
    }
    stream.flush().await?;
    Ok(true)
}
