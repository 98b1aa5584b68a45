//! The way of a fetch: credentials chosen, cache asked, permission checked, download joined or begun.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use url::Url;

use super::backend::{Backend, ByteRange, ObjectInfo, Source};
use super::cache::{Entry, naming};
use super::content;
use super::download::{Download, JoinedDownload, Permit, SingleFlight, run};
use super::places::host_of;
use super::{Arrived, Auth, ErrorKind, Fetch, Fetched, Inner, Progress, StorageError};
use crate::config::public;
use crate::net::retry::{RetryPolicy, retried};
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, Attempts};

pub(super) async fn fetch(
    inner: &Arc<Inner>,
    fetch: Fetch,
    filename: Option<&str>,
) -> Result<Fetched, StorageError> {
    let started = Instant::now();
    let (began, attempts) = (trace::now(), Attempts::wanted());
    let (url, backend) = inner.resolve(&fetch.url)?;
    let auth = match &fetch.auth {
        Some(auth) => Some(auth.clone()),
        None => fetch.credentials.choose(&fetch.url)?,
    };
    if let Some(auth) = &auth {
        auth.check_added_to(&url)
            .map_err(|reason| StorageError::new(ErrorKind::Invalid, reason))?;
    }
    let key = key(&fetch.url, auth.as_ref());
    let asked = Asked {
        inner,
        backend,
        key: &key,
        source: Source {
            auth,
            ..Source::new(url, fetch.url.trim())
        },
        filename,
        fetch: &fetch,
        attempts,
    };
    let found = tokio::select! {
        biased;
        () = fetch.cancel.cancelled() => Err(StorageError::new(ErrorKind::Cancelled, "the download was cancelled")),
        found = asked.find() => found,
    };
    let outcome = found
        .as_ref()
        .map(|(entry, cached)| (entry.size, *cached))
        .map_err(|error| error.kind.as_str());
    let per_attempt = asked.backend.name() == "http";
    let url = &asked.source.url;
    asked.attempts.finish(url, began, per_attempt, outcome);
    let (entry, cached) = found?;
    Ok(Fetched {
        origin_name: origin_name(&asked.source.url, &entry),
        path: entry.path.clone(),
        size: entry.size,
        duration: started.elapsed(),
        cached,
        lease: entry.lease,
        arrival: entry.arrival.map(Arrived),
    })
}

/// What stands for the file in the cache: its URL as the client wrote it (as with the Node server), and the service that the request names,
/// if it names one. The same bucket and key elsewhere is another file.
fn key<'a>(url: &'a str, auth: Option<&Auth>) -> Cow<'a, str> {
    match auth {
        Some(Auth::S3 {
            endpoint: Some(endpoint),
            ..
        }) => format!("{url}#{}", endpoint.trim_end_matches('/')).into(),
        _ => url.into(),
    }
}

/// The file's own name: from `Content-Disposition`, else the URL's last segment, else `file`. Never a path, never hidden.
fn origin_name(url: &Url, entry: &Entry) -> String {
    let disposition = entry
        .sidecar
        .as_ref()
        .and_then(|sidecar| sidecar.origin_name.clone());
    let segment = || {
        url.path()
            .rsplit('/')
            .next()
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
    };
    let name = disposition.or_else(segment).unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let usable: String = name
        .chars()
        .map(|char| {
            if char.is_control() || ":*?\"<>|".contains(char) {
                '_'
            } else {
                char
            }
        })
        .collect();
    let usable = usable
        .trim()
        .trim_start_matches(['.', '~'])
        .trim_end_matches(['.', ' ']);
    let extension = || {
        entry
            .path
            .extension()
            .and_then(|extension| extension.to_str())
            .map(|extension| format!(".{extension}"))
    };
    super::check_file_name(usable)
        .unwrap_or_else(|_| format!("file{}", extension().unwrap_or_default()))
}

/// How long HEAD is waited for where the file is cached already: a byte of GET tells as much.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

struct Asked<'a> {
    inner: &'a Arc<Inner>,
    backend: &'a Arc<dyn Backend>,
    key: &'a str,
    source: Source,
    filename: Option<&'a str>,
    fetch: &'a Fetch,
    /// Of the download, for its spans.
    attempts: Attempts,
}

/// What a look into the cache says.
enum Look {
    Use(Box<Entry>),
    /// To be fetched and cached under a key.
    Fetch {
        key: String,
        /// What is cached under the key is not what is wanted.
        replaces: bool,
    },
}

impl Asked<'_> {
    /// The file, and whether it was there already.
    async fn find(&self) -> Result<(Entry, bool), StorageError> {
        let (key, replaces) = match self.look().await? {
            Look::Use(entry) => {
                metrics::cache_lookup(true);
                self.use_now(&entry).await?;
                return Ok((*entry, true));
            }
            Look::Fetch { key, replaces } => (key, replaces),
        };
        let joined = self.inner.flights.join(&key, self.source.auth.as_ref());
        let permit = match joined {
            JoinedDownload::First(permit) => {
                metrics::cache_lookup(false);
                self.launch(Arc::clone(permit.flight()), key, replaces);
                permit
            }
            JoinedDownload::Waiting(permit) => permit,
        };
        Ok((self.wait_for(permit).await?, false))
    }

    /// Waits for a download, which is listed meanwhile.
    async fn wait_for(&self, permit: Permit) -> Result<Entry, StorageError> {
        let interval = self.inner.settings.progress_interval;
        let Some(purpose) = self.fetch.purpose.clone() else {
            return permit.result(self.fetch.progress.as_ref(), interval).await;
        };
        let listed = self.inner.downloads.begin(&self.fetch.url, purpose);
        let (own, asked) = (listed.progress(), self.fetch.progress.clone());
        let both: Progress = Arc::new(move |so_far, total| {
            own(so_far, total);
            if let Some(asked) = &asked {
                asked(so_far, total);
            }
        });
        let result = tokio::select! {
            result = permit.result(Some(&both), interval) => result,
            () = listed.cancel().cancelled() => Err(StorageError::new(
                ErrorKind::Cancelled,
                format!(
                    "the download of {} was cancelled by a request (DELETE /downloads/{})",
                    public(&self.source.url),
                    listed.id()
                ),
            )),
        };
        match &result {
            Ok(entry) => listed.completed(entry.size, false, None),
            Err(error) => listed.failed(error),
        }
        result
    }

    /// Whether the cached file may be used by who asks, and is what they would get. A file that came without credentials is for
    /// everybody; but who brings some may be meant to get another one. Whether a file that came with credentials may be read, is asked
    /// of the origin with what this request brings, never inferred from what an earlier one sent (A01).
    async fn look(&self) -> Result<Look, StorageError> {
        let fetch = |replaces| Look::Fetch {
            key: self.key.to_owned(),
            replaces,
        };
        let Some((entry, is_file)) = self.cached(self.key).await? else {
            return Ok(fetch(false));
        };
        if !is_file {
            return Ok(fetch(true));
        }
        if !entry.is_protected() && self.source.auth.is_none() {
            return Ok(Look::Use(Box::new(entry)));
        }
        let info = match self.ask(&entry).await {
            Ok(info) => info,
            Err(_) if !entry.is_protected() => return Ok(Look::Use(Box::new(entry))),
            Err(error) => return Err(error),
        };
        if entry.fits(&info) {
            return Ok(Look::Use(Box::new(entry)));
        }
        // Links of others lead to the cached file: what the origin has for these credentials gets a place of its own (A02).
        let key = naming::version_key(self.key, &info, &self.source);
        Ok(match self.cached(&key).await? {
            Some((entry, true)) if entry.fits(&info) => Look::Use(Box::new(entry)),
            other => Look::Fetch {
                key,
                replaces: other.is_some(),
            },
        })
    }

    /// What is cached under a key, and whether that is a file at all (F03).
    async fn cached(&self, key: &str) -> Result<Option<(Entry, bool)>, StorageError> {
        let (cache, key) = (Arc::clone(&self.inner.cache), key.to_owned());
        let (source, filename) = (self.source.clone(), self.filename.map(str::to_owned));
        blocking(move || {
            let entry = cache.find(&key, &source.url)?;
            let is_file = content::is_file(&entry, &source, filename.as_deref());
            Some((entry, is_file))
        })
        .await
    }

    async fn use_now(&self, entry: &Entry) -> Result<(), StorageError> {
        let (cache, url, used) = (
            Arc::clone(&self.inner.cache),
            self.fetch.url.clone(),
            entry.clone(),
        );
        blocking(move || cache.used(&used, &url)).await
    }

    /// Asks the origin whether these credentials open the file, and what it says of it. Only a success of HEAD proves anything; else
    /// one byte of GET decides (F01).
    async fn ask(&self, entry: &Entry) -> Result<ObjectInfo, StorageError> {
        let settings = &self.inner.settings;
        let head = self.backend.head(&self.source);
        match tokio::time::timeout(HEAD_PATIENCE.min(settings.stall), head).await {
            Ok(Ok(info)) if entry.fits(&info) => return Ok(info),
            Ok(Err(error)) if error.kind == ErrorKind::Invalid => return Err(error),
            _ => {}
        }
        let attempts = match entry.is_protected() {
            true => settings.retry.attempts,
            // It may be used whatever the origin says.
            false => 1,
        };
        let policy = RetryPolicy {
            attempts,
            ..settings.retry
        };
        let asked = retried(&policy, StorageError::asked, || self.first_byte()).await;
        asked.map_err(|error| match error.kind {
            ErrorKind::Unauthorized | ErrorKind::NotFound => self.refused(error),
            _ => error,
        })
    }

    async fn first_byte(&self) -> Result<ObjectInfo, StorageError> {
        let range = ByteRange {
            start: 0,
            end: Some(0),
        };
        let opening = self.backend.open(&self.source, Some(range), None);
        match tokio::time::timeout(self.inner.settings.stall, opening).await {
            // The body is dropped unread: it may be the whole file.
            Ok(opened) => opened.map(|stream| stream.info),
            Err(_) => Err(StorageError::new(
                ErrorKind::Transient,
                format!("{}: the server does not answer", public(&self.source.url)),
            )),
        }
    }

    fn refused(&self, error: StorageError) -> StorageError {
        let mut message = format!(
            "Authentication required to access cached file for URL: {}",
            public(&self.source.url)
        );
        if let Some((_, words)) = error
            .message
            .split_once(": it wants credentials, or others: ")
        {
            message.push_str(&format!(" ({words})"));
        }
        StorageError {
            kind: ErrorKind::Unauthorized,
            message,
            ..error
        }
    }

    /// Begins the download that everybody waits for.
    fn launch(&self, flight: Arc<SingleFlight>, key: String, replaces: bool) {
        let inner = Arc::clone(self.inner);
        let host = host_of(&self.source.url);
        let download = Download {
            key,
            source: self.source.clone(),
            filename: self.filename.map(str::to_owned),
            replaces,
            backend: Arc::clone(self.backend),
            cache: Arc::clone(&inner.cache),
            events: inner.events.clone(),
            settings: inner.settings,
            connections: inner.config.download_connections,
            meter: Arc::clone(&flight.meter),
            attempts: self.attempts.clone(),
            unproven: AtomicU32::new(0),
        };
        // Lands whatever happens, also when the download panics: nobody waits for ever.
        let landing = Landing { inner, flight };
        let flying = async move {
            let flown = async {
                // Somebody may have brought it between our look into the cache and our start.
                if let Some(entry) = unprotected(&download).await {
                    return Ok(entry);
                }
                let place = landing.inner.download_places.acquire(&host).await;
                let pace = landing.inner.settings.pace;
                let (meter, url) = (Arc::clone(&download.meter), download.source.url.clone());
                tokio::select! {
                    biased;
                    result = run(download) => result,
                    why = pace.watch(&place, || meter.pace()) => Err(pace.error(why, &public(&url))),
                }
            };
            let result = tokio::select! {
                biased;
                () = landing.flight.stop.cancelled() => Err(StorageError::new(ErrorKind::Cancelled, "the download was cancelled")),
                result = flown => result,
            };
            landing.inner.flights.land(&landing.flight, result);
        };
        tokio::spawn(trace::scope(trace::current(), flying));
    }
}

async fn unprotected(download: &Download) -> Option<Entry> {
    if download.replaces || download.source.auth.is_some() {
        return None;
    }
    let (cache, key, source, filename) = (
        Arc::clone(&download.cache),
        download.key.clone(),
        download.source.clone(),
        download.filename.clone(),
    );
    let found = blocking(move || {
        let entry = cache.find(&key, &source.url)?;
        (!entry.is_protected() && content::is_file(&entry, &source, filename.as_deref()))
            .then_some(entry)
    });
    found.await.ok()?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        if error.is_panic() {
            return defect();
        }
        StorageError::new(ErrorKind::Local, format!("the cache failed: {error}"))
    })
}

fn defect() -> StorageError {
    StorageError::new(
        ErrorKind::Defect,
        "the download failed by a defect of the server: please report it, with the log",
    )
}

struct Landing {
    inner: Arc<Inner>,
    flight: Arc<SingleFlight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.crash(&self.flight, || {
            if std::thread::panicking() {
                return defect();
            }
            StorageError::new(ErrorKind::Transient, "the download was given up")
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use tokio_util::sync::CancellationToken;

    use super::super::backend::ObjectStream;
    use super::super::{Credentials, Storage, Target, TransferSettings, UploadFile};
    use super::*;
    use crate::config::Config;
    use crate::error::Code;
    use crate::events::Events;
    use crate::net::Outbound;

    /// A backend that has a defect, as the AWS library had one.
    struct Panicking;

    #[async_trait]
    impl Backend for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
        }

        fn claims(&self, _: &Url) -> bool {
            true
        }

        fn takes(&self, _: &Target) -> bool {
            true
        }

        async fn head(&self, _: &Source) -> Result<ObjectInfo, StorageError> {
            panic!("a defect")
        }

        async fn open(
            &self,
            _: &Source,
            _: Option<ByteRange>,
            _: Option<&str>,
        ) -> Result<ObjectStream, StorageError> {
            panic!("a defect")
        }

        async fn check(&self, _: &Target, _: bool) -> Result<(), StorageError> {
            panic!("a defect")
        }

        fn url_of(&self, _: &Target, _: &str) -> String {
            panic!("a defect")
        }

        async fn upload(
            &self,
            _: &Target,
            _: &UploadFile,
            _: Option<&Progress>,
            _: &CancellationToken,
        ) -> Result<(), StorageError> {
            panic!("a defect")
        }

        async fn sign(&self, _: &Target, _: &str, _: Duration) -> Result<String, StorageError> {
            panic!("a defect")
        }
    }

    /// A22: whoever waits for a download that panicked is told that it was our fault.
    #[tokio::test]
    async fn a_panic_is_a_defect_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let env: BTreeMap<String, String> =
            [("CACHE_DIR".to_owned(), dir.path().display().to_string())].into();
        let config = Config::from_env(&env).unwrap().storage;
        crate::net::install_crypto();
        let outbound = Outbound::new(&config).unwrap();
        let settings = TransferSettings::default();
        let mut storage = Storage::with_tuning(&config, outbound, Events::default(), settings);
        Arc::get_mut(&mut storage.inner).unwrap().backends = vec![Arc::new(Panicking)];
        storage.prepare().await.unwrap();
        let fetch = Fetch {
            url: "http://h/x.png".into(),
            auth: None,
            credentials: Credentials::default(),
            cancel: CancellationToken::new(),
            progress: None,
            purpose: None,
        };
        let error = storage.fetch(fetch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Defect, "{error}");
        let failure = error.into_failure(Code::DownloadFailed);
        assert_eq!(
            (failure.code, failure.status.as_u16()),
            (Code::Internal, 500)
        );
    }
}
