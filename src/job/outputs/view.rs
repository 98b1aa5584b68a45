//! Files that are not on this machine are fetched from ComfyUI (F21).

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::{Elsewhere, FileCleanup, OutputFile};
use crate::comfy::client::Client;
use crate::error::chain;
use crate::file_threads;

/// Fetches a temporary file into the prompt's own folder.
///
/// # Errors
/// Why that is not possible, in words.
pub async fn view(
    client: &Client,
    file: Elsewhere,
    cleanup: &Arc<FileCleanup>,
) -> Result<OutputFile, String> {
    let extension = file
        .filename
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_owned());
    let extension = extension.filter(|extension| extension.len() < 32 && !extension.contains('/'));
    let cleanup = cleanup.clone();
    let placing = file_threads::spawn(move || cleanup.place(extension.as_deref()));
    let path = placing
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let mut answer = client
        .view("temp", &file.subfolder, &file.filename)
        .await
        .map_err(|error| error.to_string())?;
    let mut out = tokio::fs::File::create(&path)
        .await
        .map_err(|error| error.to_string())?;
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|error| chain(&error.without_url()))?
    {
        out.write_all(&chunk)
            .await
            .map_err(|error| error.to_string())?;
    }
    out.flush().await.map_err(|error| error.to_string())?;
    let mut described = OutputFile {
        node_id: Some(file.node),
        output: file.key,
        filename: file.filename,
        content_type: String::new(),
        size: 0,
        path,
        written_to: file.path,
        content: None,
    };
    let looking = file_threads::spawn(move || described.look(&mut 0).map(|()| described));
    looking
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}
