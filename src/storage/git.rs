//! git repositories, by the `git` command: shallow, never asking, killed when nobody waits any more.

use std::path::Path;
use std::process::Stdio;

use percent_encoding::percent_decode_str;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{ErrorKind, StorageError};
use crate::config::{ProxyConfig, public_url};
use crate::net::Outbound;

pub(super) async fn clone(_outbound: &Outbound, _proxy: &ProxyConfig, url: &str, _destination: &Path, _cancel: &CancellationToken) -> Result<(), StorageError> {
    Err(StorageError::new(ErrorKind::Failed, public_url(url)))
}
