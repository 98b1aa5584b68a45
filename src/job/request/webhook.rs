//! Who is told of the end.

use serde_json::{Map, Value};
use url::Url;

use super::read::{url_text, wrong_type};
use crate::error::Failure;
use crate::webhook::Kind;

/// A webhook that was asked for. Both kinds may be, and both are told then.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// From `webhook_v2` or `webhook`.
    pub kind: Kind,
    /// The receiver.
    pub url: Url,
}

impl WebhookRequest {
    /// Finds who is told of the end in the body of a request. An empty text is nobody (faults.md,
    /// F14).
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn find(body: &Map<String, Value>) -> Result<Vec<Self>, Failure> {
        let mut found = Vec::new();
        for (field, kind) in [("webhook_v2", Kind::V2), ("webhook", Kind::Legacy)] {
            let text = match body.get(field) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) if text.trim().is_empty() => continue,
                Some(Value::String(text)) => url_text(text, field)?,
                Some(_) => return Err(wrong_type(field, "a URL")),
            };
            match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    found.push(Self { kind, url });
                }
                _ => {
                    return Err(Failure::invalid(
                        field,
                        format!("\"{field}\" is not a URL that begins with http:// or https://"),
                    ));
                }
            }
        }
        Ok(found)
    }

    /// The request's field, for locations.
    pub const fn field(&self) -> &'static str {
        match self.kind {
            Kind::V2 => "webhook_v2",
            Kind::Legacy => "webhook",
        }
    }
}
