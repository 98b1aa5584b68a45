//! Why a workflow cannot be converted.

use serde_json::{Value, json};

/// Why a workflow cannot be converted: always the workflow's fault.
#[derive(Debug, Clone)]
pub struct ConversionError {
    /// One sentence.
    pub message: String,
    /// A path into the workflow, such as `nodes.3`; empty when it is the workflow itself.
    pub location: String,
    /// More, for programs.
    pub details: Option<Value>,
}

impl ConversionError {
    /// An error about a place.
    pub fn new(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: location.into(),
            details: None,
        }
    }
}

impl std::fmt::Display for ConversionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConversionError {}

/// A node that stands in the way.
#[derive(Debug, Clone)]
pub struct Offender {
    /// Its execution id.
    pub id: String,
    /// Its class.
    pub class: String,
    /// Its title, and those of the instances around it.
    pub title: String,
    /// The pack that the file names.
    pub package: Option<String>,
    /// Where it stands in the file.
    pub location: String,
}

/// The sentence names this many at most; `details` has all of them.
const NAMED: usize = 50;

/// Classes that ComfyUI does not have.
pub fn unknown_classes(offenders: &[Offender]) -> ConversionError {
    let mut classes: Vec<&str> = offenders.iter().map(|o| o.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    let count = match classes.len() {
        1 => "a node class".to_owned(),
        count => format!("{count} node classes"),
    };
    let message = format!(
        "The workflow uses {count} that this ComfyUI does not have: {}; install the custom nodes \
         or remove them",
        list(offenders)
    );
    with_offenders(message, offenders)
}

/// Instances without a definition.
pub fn undefined(offenders: &[Offender]) -> ConversionError {
    let message = format!(
        "The workflow uses subgraphs whose definitions are missing from its file: {}; save it \
         again with its subgraphs",
        list(offenders)
    );
    let mut error = with_offenders(message, offenders);
    error.details = None;
    error
}

fn with_offenders(message: String, offenders: &[Offender]) -> ConversionError {
    let entries: Vec<Value> = offenders
        .iter()
        .map(|offender| {
            let mut entry = json!({
                "id": offender.id,
                "class_type": offender.class,
                "title": offender.title,
            });
            if let (Some(package), Some(entry)) = (&offender.package, entry.as_object_mut()) {
                entry.insert("cnr_id".into(), package.clone().into());
            }
            entry
        })
        .collect();
    let location = offenders
        .first()
        .map(|o| o.location.clone())
        .unwrap_or_default();
    ConversionError {
        message,
        location,
        details: Some(json!({"unknown_nodes": entries})),
    }
}

fn list(offenders: &[Offender]) -> String {
    let mut named: Vec<String> = offenders
        .iter()
        .take(NAMED)
        .map(|offender| {
            let package = offender.package.as_deref();
            let package = package.map(|p| format!(" of {}", super::model::shown(p)));
            format!(
                "\"{}\"{} (node {} {})",
                super::model::shown(&offender.class),
                package.unwrap_or_default(),
                super::model::shown(&offender.id),
                offender.title
            )
        })
        .collect();
    if offenders.len() > NAMED {
        named.push(format!("and {} more", offenders.len() - NAMED));
    }
    named.join(", ")
}
