//! Uploads that are announced before they are sent, by somebody with a key to somebody without: an
//! address that is good once, for ten minutes (mcp.md, `create_upload`; console.md, `PUT
//! /uploads/{token}`).
//!
//! Nothing is kept for an announcement: the token says what it is for, and our signature that we
//! have said so. That it was used is recorded together with the asset.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::arrival::{Arrival, Arrived};
use super::{AssetRecord, NewAsset, Store, StoreError, keys, now_ms};
use crate::media;
use crate::net::http_fields::fit_media_type;

/// How long an address is good.
pub const GOOD_FOR: Duration = Duration::from_secs(600);
/// Bytes of a file's name.
const LONGEST_NAME: usize = 200;
/// Bytes of a token.
const LONGEST_TOKEN: usize = 2048;

/// Announces uploads and receives them. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Uploads {
    store: Store,
    max_bytes: u64,
}

/// An upload that may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// What the address ends with: `PUT /uploads/<token>`.
    pub token: String,
    /// The asset that there will be. In a graph it is `asset:<id>`.
    pub asset_id: String,
    /// Until when, milliseconds since 1970.
    pub expires_at: i64,
    /// Bytes that are taken at most.
    pub max_bytes: u64,
}

/// Why an upload is not taken.
#[derive(Debug)]
pub enum UploadError {
    /// Nobody announced it, or it is too late, or it has come already; a sentence.
    Unknown(&'static str),
    /// It is larger than so many bytes.
    TooLarge(u64),
    /// The store does not take it.
    Store(StoreError),
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::KeyReuse(_) => Self::Unknown(USED),
            other => Self::Store(other),
        }
    }
}

const NEVER: &str = "no upload was announced with this address: ask for a new one";
const LATE: &str = "this address was good for 10 minutes, which are over: ask for a new one";
const USED: &str = "this address was used already, and is good once: ask for a new one";

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Ticket {
    #[serde(rename = "i")]
    id: uuid::Uuid,
    /// Seconds since 1970.
    #[serde(rename = "u")]
    until: i64,
    #[serde(rename = "f")]
    name: String,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

/// An upload that comes.
pub struct Reception {
    uploads: Uploads,
    ticket: Ticket,
    arrival: Arrival,
}

impl Uploads {
    /// Into this store, up to so many bytes each.
    pub const fn new(store: Store, max_bytes: u64) -> Self {
        Self { store, max_bytes }
    }

    /// Announces a file. Of a name with folders the last part counts.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the name or the media type.
    pub fn announce(
        &self,
        filename: &str,
        content_type: Option<&str>,
    ) -> Result<Announced, String> {
        let now = now_ms() / 1000;
        let ticket = Ticket {
            id: uuid::Uuid::new_v4(),
            until: now + i64::try_from(GOOD_FOR.as_secs()).unwrap_or(0),
            name: plain_name(filename)?,
            content_type: content_type.map(media_type).transpose()?,
        };
        let text = serde_json::to_vec(&ticket).map_err(|error| error.to_string())?;
        let text = URL_SAFE_NO_PAD.encode(text);
        let signature = self.store.sign_upload(&text);
        Ok(Announced {
            token: format!("{text}.{signature}"),
            asset_id: ticket.id.to_string(),
            expires_at: ticket.until * 1000,
            max_bytes: self.max_bytes,
        })
    }

    fn ticket(&self, token: &str) -> Result<Ticket, UploadError> {
        let never = || UploadError::Unknown(NEVER);
        if token.len() > LONGEST_TOKEN {
            return Err(never());
        }
        let (text, signature) = token.split_once('.').ok_or_else(never)?;
        if !self.store.is_upload_signature(text, signature) {
            return Err(never());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| never())?;
        let ticket: Ticket = serde_json::from_slice(&bytes).map_err(|_| never())?;
        if ticket.until * 1000 <= now_ms() {
            return Err(UploadError::Unknown(LATE));
        }
        Ok(ticket)
    }

    /// An upload begins; `length` is what its sender says of it, bytes.
    ///
    /// # Errors
    /// When it was not announced, has come already, is said to be too large, or cannot be written.
    pub async fn receive(
        &self,
        token: &str,
        length: Option<u64>,
    ) -> Result<Reception, UploadError> {
        let ticket = self.ticket(token)?;
        let id = ticket.id.to_string();
        if self.store.key_made(keys::UPLOADS, &id).await?.is_some() {
            return Err(UploadError::Unknown(USED));
        }
        if length.is_some_and(|length| length > self.max_bytes) {
            return Err(UploadError::TooLarge(self.max_bytes));
        }
        Ok(Reception {
            uploads: self.clone(),
            ticket,
            arrival: Arrival::begin(&self.store).await?,
        })
    }
}

impl Reception {
    /// The next piece.
    ///
    /// # Errors
    /// When it becomes too large, or cannot be written.
    pub async fn take(&mut self, piece: &[u8]) -> Result<(), UploadError> {
        self.arrival.take(piece).await?;
        if self.arrival.size() > self.uploads.max_bytes {
            return Err(UploadError::TooLarge(self.uploads.max_bytes));
        }
        Ok(())
    }

    /// It is complete: it becomes an asset. `said` is the sender's word for its media type, if
    /// nobody has announced another.
    ///
    /// # Errors
    /// When another one with the same address was faster, or there is no room.
    pub async fn end(self, said: Option<&str>) -> Result<AssetRecord, UploadError> {
        let arrived = self.arrival.end().await?;
        let said = said.and_then(|said| media_type(said).ok());
        let (name, path) = (self.ticket.name.clone(), arrived.file.path().to_path_buf());
        let content_type = match self.ticket.content_type.or(said) {
            Some(known) => known,
            None => tokio::task::spawn_blocking(move || {
                media::head(&path).map(|head| media::content_type(&name, &head))
            })
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?
            .map_err(StoreError::from)?,
        };
        let new = NewAsset {
            file_path: self.ticket.name,
            content_type,
            tags: None,
            expires_in: None,
            key: None,
        };
        let Arrived { file, hash, size } = arrived;
        let id = self.ticket.id.to_string();
        let recorded = self.uploads.store.add_announced(id, file, hash, size, new);
        Ok(recorded.await?)
    }
}

/// The last part of a name as clients write it.
fn plain_name(filename: &str) -> Result<String, String> {
    let name = filename.trim();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    if name.is_empty() || name == "." || name == ".." {
        return Err("the file name is empty: use a name such as photo.png".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "the file name has more than {LONGEST_NAME} bytes: use a shorter one"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("the file name has control characters: use one without".to_owned());
    }
    Ok(name.to_owned())
}

/// A media type that is fit for a header.
fn media_type(text: &str) -> Result<String, String> {
    let text = text.trim();
    if fit_media_type(text) {
        Ok(text.to_owned())
    } else {
        Err("the content type is not a media type such as image/png".to_owned())
    }
}
