//! Where the outputs go, as requests name it (storage.md, "Uploads").

use serde_json::{Map, Value};

use super::read::{read, sendable, url_text};
use super::wrong_type;
use crate::error::Failure;
use crate::storage::{HfTarget, Target};

/// An upload that was asked for.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// The request's field, for locations: `s3`, `azure_blob_upload`, `hf_upload` or
    /// `http_upload`.
    pub field: &'static str,
    /// Where to.
    pub target: Target,
    /// `async`: the client does not wait.
    pub background: bool,
}

#[derive(serde::Deserialize)]
struct S3Upload {
    bucket: String,
    #[serde(default)]
    prefix: String,
}

#[derive(serde::Deserialize)]
struct AzureUpload {
    container: String,
    #[serde(default)]
    blob_prefix: String,
}

#[derive(serde::Deserialize)]
struct HttpUpload {
    url_prefix: String,
}

pub(super) fn find(body: &Map<String, Value>) -> Result<Option<UploadRequest>, Failure> {
    let mut found: Option<UploadRequest> = None;
    for field in ["s3", "azure_blob_upload", "hf_upload", "http_upload"] {
        let Some(value) = body.get(field) else {
            continue;
        };
        let Some(object) = value.as_object() else {
            return Err(wrong_type(field, "an object"));
        };
        if let Some(first) = &found {
            return Err(Failure::invalid(
                field,
                format!(
                    "both \"{}\" and \"{field}\" are given: outputs can be uploaded to one target \
                     only",
                    first.field
                ),
            ));
        }
        let background = match object.get("async") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(background)) => *background,
            Some(_) => return Err(wrong_type(format!("{field}.async"), "true or false")),
        };
        let target = target(field, object)?;
        found = Some(UploadRequest {
            field,
            target,
            background,
        });
    }
    Ok(found)
}

fn target(field: &str, object: &Map<String, Value>) -> Result<Target, Failure> {
    // Null is as good as nothing; other members are nobody's.
    let pick = |names: &[&str]| -> Value {
        let given = names.iter().filter_map(|name| {
            let value = object.get(*name).filter(|value| !value.is_null())?;
            Some(((*name).to_owned(), value.clone()))
        });
        Value::Object(given.collect())
    };
    let at = |name: &str| format!("{field}.{name}");
    let target = match field {
        "s3" => {
            let s3: S3Upload = read(pick(&["bucket", "prefix"]), field)?;
            word(&s3.bucket, at("bucket"))?;
            sendable(&s3.prefix, at("prefix"))?;
            Target::S3 {
                bucket: s3.bucket,
                prefix: s3.prefix,
            }
        }
        "azure_blob_upload" => {
            let azure: AzureUpload = read(pick(&["container", "blob_prefix"]), field)?;
            word(&azure.container, at("container"))?;
            sendable(&azure.blob_prefix, at("blob_prefix"))?;
            Target::Azure {
                container: azure.container,
                blob_prefix: azure.blob_prefix,
            }
        }
        "hf_upload" => {
            let hub: HfTarget = read(pick(&["repo", "repo_type", "revision", "directory"]), field)?;
            word(&hub.repo, at("repo"))?;
            sendable(&hub.revision, at("revision"))?;
            sendable(&hub.directory, at("directory"))?;
            Target::HuggingFace(hub)
        }
        _ => {
            let http: HttpUpload = read(pick(&["url_prefix"]), field)?;
            let url_prefix = url_text(&http.url_prefix, at("url_prefix"))?.to_owned();
            Target::Http { url_prefix }
        }
    };
    Ok(target)
}

/// Names that become part of a host, a header or a signature.
fn word(text: &str, location: String) -> Result<(), Failure> {
    sendable(text, location.clone())?;
    if text.chars().all(|char| char.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Failure::invalid(
        location.clone(),
        format!("\"{location}\" has characters that such a name cannot have"),
    ))
}

/// Only S3 and Azure can sign; whether they are configured for it is asked before the prompt runs.
pub(super) fn check_signable(upload: Option<&UploadRequest>) -> Result<(), Failure> {
    match upload.map(|upload| &upload.target) {
        Some(Target::S3 { .. } | Target::Azure { .. }) => Ok(()),
        Some(_) => Err(Failure::invalid(
            "signed_url",
            "\"signed_url\" needs an upload target that can sign URLs: \"s3\" or \
             \"azure_blob_upload\"",
        )),
        None => Err(Failure::invalid(
            "signed_url",
            "\"signed_url\" needs an upload target: add \"s3\" or \"azure_blob_upload\"",
        )),
    }
}
