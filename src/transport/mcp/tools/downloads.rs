//! `download_model`.

use serde_json::Value;

use super::super::context::Context;
use super::super::result::ToolFailure;
use super::arguments::Arguments;
use crate::error::{Code, Failure};
use crate::library::{Library, Wanted};

/// Starts a download, and waits for it as long as it was asked to.
pub async fn start(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let wanted = Wanted {
        url: arguments.needed("url")?,
        folder: arguments.needed("folder")?,
        filename: arguments.text("filename")?,
        auth: None,
    };
    let patience = arguments.wait()?.unwrap_or_default();
    let rest = &context.state.rest;
    let library = Library::new(
        rest.comfy.clone(),
        rest.storage.clone(),
        rest.health.clone(),
    );
    let download = library.check(wanted).map_err(of_input)?;
    library.check_url(&download).await.map_err(of_input)?;
    let id = library.start(download);
    let downloads = library.downloads();
    let entry = if patience.is_zero() {
        downloads.get(&id)
    } else {
        downloads.wait(&id, patience).await
    };
    let entry = entry.and_then(|entry| serde_json::to_value(entry).ok());
    entry.ok_or_else(|| {
        ToolFailure::new(
            Code::Internal.as_str(),
            "the download cannot be found any more",
        )
    })
}

/// Arguments stand below `input` here.
fn of_input(failure: Failure) -> Failure {
    match failure.location.clone() {
        Some(location) => failure.at(format!("input.{location}")),
        None => failure,
    }
}
