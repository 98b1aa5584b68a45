//! `create_upload`: an address for clients that can send a file, and have no key.

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::result::ToolFailure;
use super::arguments::{Arguments, invalid};
use crate::store::uploads::Uploads;
use crate::transport::v2::time;

/// Announces an upload.
pub fn create(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let filename = arguments.needed("filename")?;
    let content_type = arguments.text("content_type")?;
    let config = &context.state.rest.config;
    let uploads = Uploads::new(
        context.state.jobs.store().clone(),
        config.state.max_upload_bytes,
    );
    let announced = uploads
        .announce(&filename, content_type.as_deref())
        .map_err(|reason| invalid("filename", reason))?;
    let url = format!("{}/uploads/{}", context.base.absolute, announced.token);
    let plain: String = filename
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .replace('\'', "'\\''");
    Ok(json!({
        "upload_url": url,
        "method": "PUT",
        "input": format!("asset:{}", announced.asset_id),
        "expires_at": time(announced.expires_at),
        "max_bytes": announced.max_bytes,
        "example": format!("curl -T '{plain}' '{url}'"),
    }))
}
