//! What is shown of the endpoints, and of files that are broken.

use serde_json::Value;

use super::registry::Workflow;
use super::{Workflows, source};
use crate::graph::catalogue::NodeClasses;

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `/workflow/<path without extension>`
    pub route: String,
    /// For the documentation.
    pub summary: Option<String>,
    /// For the documentation; with the markdown table unless that is switched off.
    pub description: Option<String>,
    /// The description without that table.
    pub about: Option<String>,
    /// JSON Schema (OpenAPI 3.1 dialect) of `input`.
    pub input_schema: Value,
}

/// One endpoint as clients see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// `/workflow/<path without extension>`
    pub path: String,
    /// What follows `/workflow/`.
    pub name: String,
    /// One line.
    pub summary: Option<String>,
    /// More of it.
    pub description: Option<String>,
    /// `js` or `json`.
    pub source: &'static str,
    /// JSON Schema of `input`.
    pub input: Value,
}

/// A file that could not be loaded; the log has the same.
#[derive(Debug, Clone)]
pub struct BrokenFile {
    /// The path below the directory, without extension: what would follow `/workflow/`.
    pub name: String,
    /// The file with the mistake; another than the workflow's own when that imports it.
    pub file: String,
    /// From 1; 0 when the file could not even be read.
    pub line: u32,
    /// From 1; 0 when the file could not even be read.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

impl Workflows {
    /// The endpoints, sorted by route. Does not block.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.0.registry().endpoints.clone()
    }

    /// The endpoints as clients see them, sorted by path. With what ComfyUI says of its nodes
    /// inputs that take media are known.
    pub fn listed(&self, classes: Option<&NodeClasses>) -> Vec<Listed> {
        let registry = self.0.registry();
        let endpoints = registry.endpoints.iter();
        endpoints
            .map(|endpoint| {
                let name = endpoint.route.trim_start_matches("/workflow/");
                let mut input = endpoint.input_schema.clone();
                let workflow = registry.workflows.get(name).map(|workflow| &**workflow);
                let source = match workflow {
                    Some(Workflow::Plain(plain)) => {
                        plain.name_media(&mut input, classes);
                        "json"
                    }
                    _ => "js",
                };
                Listed {
                    path: endpoint.route.clone(),
                    name: name.to_owned(),
                    summary: endpoint.summary.clone(),
                    description: endpoint.about.clone(),
                    source,
                    input,
                }
            })
            .collect()
    }

    /// The files that the last load left out, sorted by name. Does not block.
    pub fn broken(&self) -> Vec<BrokenFile> {
        let describe = |(name, fault): (&String, &source::Fault)| {
            let source::Fault {
                message,
                file,
                line,
                column,
            } = fault.clone();
            BrokenFile {
                name: name.clone(),
                file,
                line,
                column,
                message,
            }
        };
        self.0.registry().failed.iter().map(describe).collect()
    }
}
