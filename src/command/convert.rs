//! `comfyui-api convert FILE`: a workflow as the editor saves it, or a picture that holds one,
//! becomes a graph for the API.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::{Config, ProcessEnv};
use crate::error::chain;
use crate::graph::catalogue::NodeClasses;
use crate::graph::embedded::{self, Preference};
use crate::graph::recognise::Recognised;
use crate::graph::ui::{self, Moment};
use crate::json;

/// ComfyUI describes all of its nodes within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
/// From standard input.
const MOST_READ: u64 = 1 << 30;

/// What to convert, and with which nodes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A workflow, or a picture, video or sound with one inside; `-` reads standard input
    file: PathBuf,
    /// ComfyUI's answer to /object_info, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "comfyui")]
    object_info: Option<PathBuf>,
    /// A running ComfyUI that says which nodes it has; the configured one by default
    #[arg(long, value_name = "URL")]
    comfyui: Option<String>,
    /// Where the graph goes, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which of the two graphs of a media file counts
    #[arg(long, value_enum, default_value_t)]
    source: Source,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Source {
    #[default]
    Prompt,
    Workflow,
}

/// Converts; the error is a sentence.
///
/// # Errors
/// When something cannot be read, converted or written.
pub async fn run(arguments: Arguments, out: &mut (dyn Write + Send)) -> Result<(), String> {
    let preference = match arguments.source {
        Source::Prompt => Preference::Prompt,
        Source::Workflow => Preference::Workflow,
    };
    let (graph, warnings) = match read(&arguments.file, preference)? {
        Recognised::Api(graph) => (graph, Vec::new()),
        Recognised::Ui(workflow) => {
            let classes = NodeClasses::read(&object_info(&arguments).await?);
            let converted = ui::convert(&workflow, &classes, Moment::now())
                .map_err(|error| error.to_string())?;
            (converted.prompt, converted.warnings)
        }
    };
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let text = format!("{:#}\n", Value::Object(graph));
    match &arguments.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display())),
        None => out
            .write_all(text.as_bytes())
            .map_err(|error| format!("the graph cannot be written: {error}")),
    }
}

fn read(file: &Path, preference: Preference) -> Result<Recognised, String> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .take(MOST_READ)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("standard input cannot be read: {error}"))?;
        return embedded::recognise_bytes(&bytes, preference);
    }
    let mut opened = std::fs::File::open(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    embedded::read(&mut opened, preference)
}

async fn object_info(arguments: &Arguments) -> Result<Value, String> {
    if let Some(path) = &arguments.object_info {
        let text = std::fs::read(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let info = json::parse(text).map_err(|error| format!("{} {error}", path.display()))?;
        return described(info, &path.display().to_string());
    }
    let base = match &arguments.comfyui {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let config = Config::from_env(&ProcessEnv)
                .map_err(|error| error.to_string().trim_end().to_owned())?;
            format!("http://{}", config.comfy.authority())
        }
    };
    let url = format!("{base}/object_info");
    let asked = async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        client
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await
    };
    let answer = asked.await.map_err(|error| {
        format!(
            "ComfyUI does not say which nodes it has ({}): start it, or give --object-info FILE \
             or --comfyui URL",
            chain(&error)
        )
    })?;
    let info =
        json::parse(answer.to_vec()).map_err(|error| format!("the answer of {url} {error}"))?;
    described(info, &url)
}

/// Something that describes nodes.
fn described(info: Value, from: &str) -> Result<Value, String> {
    let is_described = info
        .as_object()
        .is_some_and(|classes| classes.values().any(|class| class.get("input").is_some()));
    if is_described {
        Ok(info)
    } else {
        Err(format!("{from} is no answer of ComfyUI to /object_info"))
    }
}
