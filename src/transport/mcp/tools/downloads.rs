//! `download_model`.

use serde_json::Value;

use super::super::context::Context;
use super::super::result::ToolFailure;
use super::arguments::Arguments;

/// Starts a download.
pub async fn start(_: &Context, _: Arguments) -> Result<Value, ToolFailure> {
    Err(ToolFailure::new("internal", "not built yet"))
}
