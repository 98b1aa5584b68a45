//! The request's own fields as they are answered again.

use crate::fields;
use serde_json::{Map, Value};

pub(super) fn echo(mut body: Map<String, Value>) -> Map<String, Value> {
    for pointer in ["webhook", "webhook_v2"] {
        body.get_mut(pointer).into_iter().for_each(hide_secrets);
    }
    body.get_mut("http_upload")
        .and_then(|upload| upload.get_mut("url_prefix"))
        .into_iter()
        .for_each(hide_secrets);
    fields::echoed()
        .filter_map(|name| Some((name.to_owned(), body.remove(name)?)))
        .collect()
}

/// A URL's userinfo and signatures are credentials, and answers are read by others too: attached
/// streams, webhooks, the queue.
fn hide_secrets(url: &mut Value) {
    if let Some(parsed) = url.as_str().and_then(|text| url::Url::parse(text).ok()) {
        let public = crate::config::public(&parsed);
        if public != parsed.as_str() {
            *url = public.into();
        }
    }
}
