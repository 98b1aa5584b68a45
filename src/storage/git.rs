//! git repositories, by the `git` command: shallow, never asking, killed with its children when nobody waits any more.
//!
//! A clone appears under its name complete or not at all. git resolves names itself, so it is told the addresses that the guard has
//! checked, and follows no redirect: where the repository really is has been found out before. Credentials from the URL travel in the
//! environment as a header for that host, and are neither in the arguments nor in the clone's own configuration.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{ErrorKind, StorageError, error};
use crate::comfy::supervisor::{ProcessGroup, protect};
use crate::config::{public, withhold_from_tool};
use crate::net::redirect::send_guarded;
use crate::net::{Outbound, http_fields, refusal_of, retry};
use crate::telemetry::metrics;

/// For the first answer of a server; git has its own rule for slow ones.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// In the `.git` of a clone, locked while it is updated, and not empty: a git that is killed in the middle leaves a mixture of two versions, and
/// its locks.
const UPDATING: &str = "comfyui-api-updating";
/// In the `.git` of a clone of ours: of which repository it is, and at which reference.
const SOURCE: &str = "comfyui-api-source";
/// How often it is looked whether another process has ended its update.
const OTHERS_TURN: std::time::Duration = std::time::Duration::from_millis(100);
/// What git says last is what matters.
const STDERR_KEPT: usize = 2000;

/// One git at a time in each clone: two would meet at its lock files.
#[derive(Default)]
pub(super) struct Clones(Mutex<HashMap<PathBuf, Turn>>);

/// Whose turn it is in a folder.
struct Turn {
    identity: String,
    lock: Weak<tokio::sync::Mutex<()>>,
}

impl Clones {
    /// The turn in a folder; none while another repository is at work under that name. Letters' case does not count: file systems differ.
    fn of(&self, folder: &Path, identity: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let key = PathBuf::from(folder.to_string_lossy().to_lowercase());
        let mut clones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clones.retain(|_, turn| turn.lock.strong_count() > 0);
        if let Some(turn) = clones.get(&key) {
            return turn.lock.upgrade().filter(|_| turn.identity == identity);
        }
        let lock = Arc::default();
        let turn = Turn {
            identity: identity.to_owned(),
            lock: Arc::downgrade(&lock),
        };
        clones.insert(key, turn);
        Some(lock)
    }
}

pub(super) async fn clone(
    clones: &Clones,
    outbound: &Outbound,
    url: &str,
    dirs: &[PathBuf],
    name: &str,
    cancel: &CancellationToken,
) -> Result<String, StorageError> {
    let work = async {
        let mut repository = Repository::locate(outbound, url).await?;
        repository.dirs = dirs.to_vec();
        repository.bring(clones, name, url).await
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(StorageError::new(ErrorKind::Cancelled, "the clone was cancelled")),
        result = work => result,
    };
    metrics::download("git", result.is_ok(), 0);
    result
}

/// What stands under a folder's name.
enum Standing {
    Nothing,
    /// Our clone of this repository and reference, in this directory.
    Ours(PathBuf),
    /// Somebody else's clone of this repository, to be used as it is.
    Theirs,
    /// Something else.
    Other,
}

/// A folder's name for a repository whose plain name is taken: with eight digits of its URL's hash. Credentials do not count.
fn own_name(name: &str, url: &str) -> String {
    let mut clean = url.trim().to_owned();
    if let Ok(mut url) = Url::parse(&clean) {
        let _ = url.set_username("");
        let _ = url.set_password(None);
        clean = url.into();
    }
    let hash = Sha256::digest(clean.as_bytes());
    let digits: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{digits}")
}

/// Where a repository is, and how git gets there.
struct Repository {
    /// Without userinfo and fragment.
    url: Url,
    /// The URL's fragment: a branch, tag or commit.
    reference: Option<String>,
    /// Configuration for git that is no file and no argument.
    settings: Vec<(String, String)>,
    /// The directories that may take the clone. Errors do not name them.
    dirs: Vec<PathBuf>,
}

impl Repository {
    /// Follows redirects under the guard and notes the addresses that it let through.
    async fn locate(outbound: &Outbound, text: &str) -> Result<Self, StorageError> {
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                StorageError::new(
                    ErrorKind::Invalid,
                    format!(
                        "{} is not an http or https URL of a git repository",
                        crate::config::public_url(text)
                    ),
                )
            })?;
        let reference = url
            .fragment()
            .filter(|fragment| !fragment.is_empty())
            .map(str::to_owned);
        if reference
            .as_deref()
            .is_some_and(|reference| reference.starts_with('-'))
        {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!("{}: a git reference does not begin with -", public(&url)),
            ));
        }
        let authorization = authorization(&url);
        // Neither fails on web URLs.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let found = follow(outbound, &url, authorization.as_deref()).await?;
        let mut settings = vec![
            ("http.followRedirects".to_owned(), "false".to_owned()),
            ("http.lowSpeedLimit".to_owned(), "1000".to_owned()),
            ("http.lowSpeedTime".to_owned(), "60".to_owned()),
            (
                "http.proxy".to_owned(),
                outbound
                    .proxy_of(&found)
                    .map(|proxy| proxy.expose().to_owned())
                    .unwrap_or_default(),
            ),
            ("credential.helper".to_owned(), String::new()),
            ("protocol.allow".to_owned(), "never".to_owned()),
            ("protocol.http.allow".to_owned(), "always".to_owned()),
            ("protocol.https.allow".to_owned(), "always".to_owned()),
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
        ];
        if let Some(authorization) = authorization.filter(|_| found.origin() == url.origin()) {
            let origin = found.origin().ascii_serialization();
            settings.push((
                format!("http.{origin}/.extraHeader"),
                format!("Authorization: {authorization}"),
            ));
        }
        if let (Some(host), Some(port), None) = (
            found.host_str(),
            found.port_or_known_default(),
            outbound.proxy_of(&found),
        ) {
            let addresses = outbound
                .addresses(&found)
                .await
                .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))?;
            if !addresses.is_empty() {
                let list: Vec<String> = addresses
                    .iter()
                    .map(|ip| {
                        if ip.is_ipv6() {
                            format!("[{ip}]")
                        } else {
                            ip.to_string()
                        }
                    })
                    .collect();
                settings.push((
                    "http.curloptResolve".to_owned(),
                    format!("{host}:{port}:{}", list.join(",")),
                ));
            }
        }
        Ok(Self {
            url: found,
            reference,
            settings,
            dirs: Vec::new(),
        })
    }

    /// What tells it from all other repositories and references.
    fn identity(&self) -> String {
        format!(
            "{}#{}",
            public(&self.url),
            self.reference.as_deref().unwrap_or_default()
        )
    }

    /// Has it under the plain name, or under a name of its own where that is taken. Returns the name.
    async fn bring(&self, clones: &Clones, name: &str, url: &str) -> Result<String, StorageError> {
        let first = self.dirs.first().cloned().unwrap_or_default();
        let identity = self.identity();
        for candidate in [name.to_owned(), own_name(name, url)] {
            let Some(turn) = clones.of(&first.join(&candidate), &identity) else {
                continue;
            };
            let _turn = turn.lock().await;
            match self.standing(&candidate).await {
                Standing::Nothing => self.clone_into_one(&candidate).await?,
                Standing::Ours(dir) => self.update(&dir.join(&candidate)).await?,
                Standing::Theirs => {
                    tracing::info!(name = candidate, url = %public(&self.url), "a clone that we did not make is used as it is");
                }
                Standing::Other => continue,
            }
            return Ok(candidate);
        }
        Err(StorageError::new(
            ErrorKind::Failed,
            format!(
                "{} cannot be cloned: its folder's name is taken here",
                public(&self.url)
            ),
        ))
    }

    async fn standing(&self, name: &str) -> Standing {
        for dir in &self.dirs {
            let path = dir.join(name);
            if std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Standing::Other,
            }
            let mark = path.join(".git").join(SOURCE);
            return match std::fs::read_to_string(&mark) {
                Ok(source) if source.trim() == self.identity() => Standing::Ours(dir.clone()),
                Ok(_) => Standing::Other,
                Err(_) if !self.is_origin_of(&path).await => Standing::Other,
                // One that an older version has updated was made by it.
                Err(_) if path.join(".git").join(UPDATING).exists() => {
                    let _ = std::fs::write(&mark, self.identity());
                    Standing::Ours(dir.clone())
                }
                Err(_) => Standing::Theirs,
            };
        }
        Standing::Nothing
    }

    /// Whether a clone without our mark is of this repository, as far as that can be told: at which reference it is, is not known.
    async fn is_origin_of(&self, clone: &Path) -> bool {
        if self.reference.is_some() || !clone.join(".git").exists() {
            return false;
        }
        let arguments = ["config", "--get", "remote.origin.url"];
        let origin = self.git(&arguments, &[], Some(clone)).await;
        let origin = origin.unwrap_or_default();
        let known = Url::parse(origin.trim()).map(|url| public(&url));
        known.is_ok_and(|known| {
            known.trim_end_matches('/') == public(&self.url).trim_end_matches('/')
        })
    }

    /// Clones into the first directory that can be written.
    async fn clone_into_one(&self, name: &str) -> Result<(), StorageError> {
        let mut reason = None;
        for dir in &self.dirs {
            match temporary_in(dir).await {
                Ok(temporary) => return self.clone_into(temporary, &dir.join(name)).await,
                Err(error) => {
                    tracing::warn!(path = %dir.display(), %error, "repositories cannot be cloned into this folder");
                    reason = Some(error);
                }
            }
        }
        let reason = reason.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
        Err(self.unwritable(&reason))
    }

    fn unwritable(&self, error: &std::io::Error) -> StorageError {
        let url = public(&self.url);
        StorageError::local(
            format!("the clone of {url} cannot be written: {error}"),
            error,
        )
    }

    async fn clone_into(
        &self,
        temporary: Temporary,
        destination: &Path,
    ) -> Result<(), StorageError> {
        let shallow = [
            "clone",
            "--quiet",
            "--depth",
            "1",
            "--single-branch",
            "--no-tags",
        ];
        if let Err(error) = self
            .git(
                &shallow,
                &[self.url.as_str().into(), temporary.0.clone().into()],
                None,
            )
            .await
        {
            // A plain web server with a repository on it cannot cut history short.
            if !(error.message.contains("shallow") || error.message.contains("dumb http")) {
                return Err(error);
            }
            self.git(
                &["clone", "--quiet"],
                &[self.url.as_str().into(), temporary.0.clone().into()],
                None,
            )
            .await?;
        }
        if let Some(reference) = &self.reference {
            self.fetch(&temporary.0, reference).await?;
            self.reset(&temporary.0).await?;
        }
        // A web server that is no git server can look like an empty repository.
        if self
            .git(
                &["rev-parse", "--quiet", "--verify", "HEAD"],
                &[],
                Some(&temporary.0),
            )
            .await
            .is_err()
        {
            return Err(StorageError::new(
                ErrorKind::Failed,
                format!("{} is an empty git repository, or none", public(&self.url)),
            ));
        }
        let mark = temporary.0.join(".git").join(SOURCE);
        let marked = tokio::fs::write(mark, self.identity()).await;
        let moved = match marked {
            Ok(()) => tokio::fs::rename(&temporary.0, destination).await,
            failed => failed,
        };
        match moved {
            Ok(()) => Ok(()),
            // Another process was faster; its clone is as good.
            Err(_)
                if std::fs::read_to_string(destination.join(".git").join(SOURCE))
                    .is_ok_and(|source| source == self.identity()) =>
            {
                Ok(())
            }
            Err(error) => Err(self.unwritable(&error)),
        }
    }

    /// Brings a clone of ours up to date. One that somebody has worked in is left alone.
    async fn update(&self, destination: &Path) -> Result<(), StorageError> {
        let git_dir = destination.join(".git");
        let mark = git_dir.join(UPDATING);
        let failed = |error: std::io::Error| self.unwritable(&error);
        let updating = turn_of(&mark).await.map_err(failed)?;
        if updating.metadata().is_ok_and(|mark| mark.len() > 0) {
            tracing::info!(path = %destination.display(), "an update of the git clone did not end; it is done again");
            for lock in ["index.lock", "shallow.lock", "HEAD.lock"] {
                let _ = std::fs::remove_file(git_dir.join(lock));
            }
        } else if !self
            .git(
                &["status", "--porcelain", "--untracked-files=no"],
                &[],
                Some(destination),
            )
            .await?
            .trim()
            .is_empty()
        {
            tracing::warn!(path = %destination.display(), "the git clone has changes of its own and is used as it is");
            return Ok(());
        }
        (&updating).write_all(b"x").map_err(failed)?;
        let fetched = self
            .fetch(destination, self.reference.as_deref().unwrap_or("HEAD"))
            .await;
        if fetched.is_ok() {
            self.reset(destination).await?;
        }
        updating.set_len(0).map_err(failed)?;
        fetched
    }

    async fn fetch(&self, clone: &Path, reference: &str) -> Result<(), StorageError> {
        let fetched = self
            .git(
                &["fetch", "--quiet", "--depth", "1"],
                &[self.url.as_str().into(), reference.into()],
                Some(clone),
            )
            .await;
        if let Err(error) = fetched {
            if !(error.message.contains("shallow") || error.message.contains("dumb http")) {
                return Err(error);
            }
            self.git(
                &["fetch", "--quiet"],
                &[self.url.as_str().into(), reference.into()],
                Some(clone),
            )
            .await?;
        }
        Ok(())
    }

    /// To what was fetched.
    async fn reset(&self, clone: &Path) -> Result<(), StorageError> {
        self.git(
            &["reset", "--quiet", "--hard", "FETCH_HEAD"],
            &[],
            Some(clone),
        )
        .await
        .map(drop)
    }

    /// Runs git and returns what it printed.
    async fn git(
        &self,
        arguments: &[&str],
        more: &[OsString],
        dir: Option<&Path>,
    ) -> Result<String, StorageError> {
        let mut command = Command::new("git");
        if let Some(dir) = dir {
            // A clone made by another user is still ours to update.
            command
                .arg("-c")
                .arg(format!("safe.directory={}", dir.display()))
                .arg("-C")
                .arg(dir);
        }
        // Options end before what came from outside.
        command.args(arguments);
        if !more.is_empty() {
            command.arg("--").args(more);
        }
        withhold_from_tool(command.as_std_mut());
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (n, (key, value)) in self.settings.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{n}"), key)
                .env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        for name in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_TRACE",
            "GIT_TRACE_CURL",
            "GIT_CURL_VERBOSE",
        ] {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let spawned = command.spawn().map_err(|error| {
            StorageError::new(
                ErrorKind::Failed,
                format!(
                    "git cannot be run for {}: {error}. Install git in the image",
                    public(&self.url)
                ),
            )
        })?;
        let mut result = self.finish(spawned).await;
        if let Err(error) = &mut result {
            for dir in &self.dirs {
                error.message = error.message.replace(&*dir.to_string_lossy(), "…");
            }
        }
        result
    }

    async fn finish(&self, mut child: tokio::process::Child) -> Result<String, StorageError> {
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let _guarded = group
            .0
            .and_then(|leader| protect(ProcessGroup(Pid::from_raw(leader))));
        let (mut out, mut errors) = (String::new(), String::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (_, _, status) = tokio::join!(
            read(stdout, &mut out),
            read(stderr, &mut errors),
            child.wait()
        );
        group.0 = None;
        if status.is_ok_and(|status| status.success()) {
            return Ok(out);
        }
        let tail: String = errors
            .chars()
            .rev()
            .take(STDERR_KEPT)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let tail = tail.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = tail.to_lowercase();
        let kind = if lower.contains("authentication") || lower.contains("could not read username")
        {
            ErrorKind::Unauthorized
        } else if lower.contains("not found") {
            ErrorKind::NotFound
        } else if ["timed out", "connect", "early eof", "rpc failed", "hung up"]
            .iter()
            .any(|sign| lower.contains(sign))
        {
            ErrorKind::Transient
        } else {
            ErrorKind::Failed
        };
        Err(StorageError::new(
            kind,
            format!("git could not fetch {}: {tail}", public(&self.url)),
        ))
    }
}

/// Reads what a pipe gives; output that is not UTF-8 is read lossily.
async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>, into: &mut String) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        into.push_str(&String::from_utf8_lossy(&buffer[..count]));
        // Only the end is of interest, and git may talk for long.
        if into.len() > 64 * 1024 {
            let keep: String = into
                .chars()
                .rev()
                .take(4 * STDERR_KEPT)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            *into = keep;
        }
    }
}

fn authorization(url: &Url) -> Option<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let given = !url.username().is_empty() || url.password().is_some();
    given.then(|| {
        format!(
            "Basic {}",
            STANDARD.encode(format!(
                "{}:{}",
                decoded(url.username()),
                decoded(url.password().unwrap_or_default())
            ))
        )
    })
}

/// Asks as git will ask, to learn where redirects lead.
async fn follow(
    outbound: &Outbound,
    url: &Url,
    authorization: Option<&str>,
) -> Result<Url, StorageError> {
    const QUESTION: &str = "/info/refs";
    let mut asked = url.clone();
    asked.set_path(&format!("{}{QUESTION}", url.path().trim_end_matches('/')));
    asked.set_query(Some("service=git-upload-pack"));
    let mut private = HeaderMap::new();
    private.extend(
        authorization
            .and_then(|value| HeaderValue::from_str(value).ok())
            .map(|value| (header::AUTHORIZATION, value)),
    );
    let mut open = HeaderMap::new();
    // GitLab and others answer browsers otherwise than git.
    open.insert(
        header::USER_AGENT,
        HeaderValue::from_static("git/2.0 (comfyui-api)"),
    );
    let policy = retry::RetryPolicy::default();
    retry::retried(&policy, StorageError::asked, || async {
        let sent = send_guarded(outbound, Method::GET, &asked, &open, &private);
        match tokio::time::timeout(ANSWER_TIMEOUT, sent).await {
            Err(_) => Err(StorageError::new(
                ErrorKind::Transient,
                format!("the git repository {} does not answer", public(url)),
            )),
            Ok(Ok((response, mut at))) if response.status().is_success() => {
                let path = at
                    .path()
                    .strip_suffix(QUESTION)
                    .unwrap_or(url.path())
                    .to_owned();
                at.set_path(&path);
                at.set_query(None);
                Ok(at)
            }
            Ok(Ok((response, _))) => Err(refused(response, url, authorization).await),
            Ok(Err(error)) => Err(match refusal_of(&error) {
                Some(refused) => {
                    StorageError::new(ErrorKind::Invalid, format!("{}: {refused}", public(url)))
                }
                None => StorageError::new(
                    ErrorKind::Transient,
                    format!(
                        "the git repository {}: {}",
                        public(url),
                        crate::error::chain(&error)
                    ),
                ),
            }),
        }
    })
    .await
}

/// What an answer that is no success means, with the server's own words.
async fn refused(
    response: reqwest::Response,
    url: &Url,
    authorization: Option<&str>,
) -> StorageError {
    let status = response.status();
    let kind = match status.as_u16() {
        401 | 403 => ErrorKind::Unauthorized,
        404 | 410 => ErrorKind::NotFound,
        _ if retry::is_transient_status(status) => ErrorKind::Transient,
        _ => ErrorKind::Failed,
    };
    let mut message = format!("the git repository {} answered {status}", public(url));
    let headers = response.headers().clone();
    let body = error::read_refusal(response).await;
    let mut secrets: Vec<String> = Vec::new();
    if let Some(pair) = authorization.and_then(|value| value.strip_prefix("Basic ")) {
        secrets.push(pair.to_owned());
        let decoded = STANDARD.decode(pair).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded);
        secrets.extend(decoded.split_once(':').map(|(_, word)| word.to_owned()));
    }
    if let Some(words) = error::origin_words(&headers, &body, &secrets) {
        message.push_str(": ");
        message.push_str(&words);
    }
    StorageError {
        kind,
        message,
        retry_after: http_fields::retry_after(&headers),
    }
}

/// The mark of an update, locked: other processes may share the clone. On a file system without locks there is nothing to wait for.
async fn turn_of(mark: &Path) -> std::io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .append(true)
        .open(mark)?;
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        tokio::time::sleep(OTHERS_TURN).await;
    }
    Ok(file)
}

/// The process group of a git that runs. Dropping it kills git and its children.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// A new directory for a clone that is not complete. The folder around it is made only where its parent is there.
async fn temporary_in(dir: &Path) -> std::io::Result<Temporary> {
    if !dir.is_dir() {
        match tokio::fs::create_dir(dir).await {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let path = dir.join(format!(".{}.partial", uuid::Uuid::new_v4().simple()));
    tokio::fs::create_dir(&path).await?;
    Ok(Temporary(path))
}

/// A directory that goes when it is no longer needed; in a thread, because it may be large.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if path.exists() {
            std::thread::spawn(move || std::fs::remove_dir_all(path));
        }
    }
}
