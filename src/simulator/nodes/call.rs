//! One run of one node: its inputs, its way of reporting, its results.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::simulator::args::Imitate;
use crate::simulator::execution::Current;
use crate::simulator::instance::Instance;
use crate::simulator::picture::{Picture, jpeg};
use crate::simulator::python;
use crate::simulator::sound::Sound;

/// A latent: enough to draw a picture of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latent {
    /// Pixels of the decoded picture.
    pub width: u32,
    /// Pixels of the decoded picture.
    pub height: u32,
    /// How many pictures.
    pub batch: u32,
    /// Chooses the colours.
    pub seed: u64,
    /// Drawn on the picture.
    pub text: String,
}

/// A video: frames, or a file that was loaded.
#[derive(Debug, Clone)]
pub struct Video {
    /// The pictures.
    pub frames: Vec<Picture>,
    /// Frames per second.
    pub fps: f64,
    /// A loaded file, taken over as it is.
    pub source: Option<Vec<u8>>,
}

/// A value between nodes.
#[derive(Debug, Clone)]
pub enum Datum {
    /// A constant.
    Json(Value),
    /// A batch of pictures.
    Images(Arc<Vec<Picture>>),
    /// A latent.
    Latent(Arc<Latent>),
    /// A text that conditions.
    Conditioning(Arc<str>),
    /// A video.
    Video(Arc<Video>),
    /// A sound.
    Audio(Sound),
    /// A model or something else that only has a type and a name.
    Opaque(&'static str, Arc<str>),
}

impl Datum {
    /// Bytes of pixels and samples, roughly.
    pub fn size(&self) -> usize {
        let pixels = |pictures: &[Picture]| pictures.iter().map(|picture| picture.rgb.len()).sum();
        match self {
            Self::Images(pictures) => pixels(pictures),
            Self::Video(video) => pixels(&video.frames) + video.source.as_ref().map_or(0, Vec::len),
            Self::Audio(sound) => sound.samples.len() * 2,
            Self::Json(_) | Self::Latent(_) | Self::Conditioning(_) | Self::Opaque(..) => 0,
        }
    }

    /// As an error report shows it.
    pub fn shown(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Images(images) => format!("tensor of {} images", images.len()).into(),
            Self::Latent(latent) => format!(
                "{{'samples': tensor of {}x{}x{}}}",
                latent.batch,
                latent.height / 8,
                latent.width / 8
            )
            .into(),
            Self::Conditioning(text) => format!("[[{text}]]").into(),
            Self::Video(_) => "<VideoFromComponents>".into(),
            Self::Audio(_) => "{'waveform': tensor}".into(),
            Self::Opaque(kind, name) => format!("<{kind} {name}>").into(),
        }
    }
}

/// What a node gives.
#[derive(Debug, Clone, Default)]
pub struct Produced {
    /// One per output.
    pub outputs: Vec<Datum>,
    /// For the client: what `executed` and the history show.
    pub ui: Option<Value>,
    /// Nodes that take its place, by ids of their own; links to others are those of the outer
    /// graph.
    pub expand: Option<Map<String, Value>>,
}

impl Produced {
    /// One output, nothing to show.
    pub fn one(datum: Datum) -> Self {
        Self {
            outputs: vec![datum],
            ..Self::default()
        }
    }

    /// Something to show, and the outputs of a node that passes on.
    pub fn shown(ui: Value, outputs: Vec<Datum>) -> Self {
        Self {
            outputs,
            ui: Some(ui),
            expand: None,
        }
    }
}

/// How a node ends early.
#[derive(Debug, Clone)]
pub enum Raised {
    /// Someone asked for it.
    Interrupted,
    /// An exception.
    Error {
        /// Its type with its module, as Python names it.
        kind: String,
        /// Its text.
        message: String,
    },
}

impl Raised {
    /// An exception of a type.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Error {
            kind: kind.into(),
            message: message.into(),
        }
    }
}

impl From<std::io::Error> for Raised {
    fn from(error: std::io::Error) -> Self {
        Self::new(
            if error.kind() == std::io::ErrorKind::NotFound {
                "FileNotFoundError"
            } else {
                "OSError"
            },
            as_python_says(&error),
        )
    }
}

/// `[Errno 28] No space left on device`
fn as_python_says(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => {
            let end = format!(" (os error {number})");
            format!("[Errno {number}] {}", text.trim_end_matches(&end))
        }
        None => text,
    }
}

/// One run of one node.
#[derive(Debug)]
pub struct Call<'a> {
    /// The server.
    pub instance: &'a Instance,
    /// The prompt that runs.
    pub current: &'a Current<'a>,
    /// The node's id.
    pub node: &'a str,
    /// The node of the client's graph for which it stands.
    pub display: &'a str,
    /// The node's class.
    pub class: &'a str,
    /// Values by input name.
    pub inputs: HashMap<String, Datum>,
}

impl Call<'_> {
    /// Where an input comes from, as the graph has it.
    pub fn link(&self, name: &str) -> Value {
        let node = self.current.graph().get(self.node);
        node.map(|node| node["inputs"][name].clone())
            .unwrap_or_default()
    }

    /// A constant.
    pub fn value(&self, name: &str) -> Value {
        match self.inputs.get(name) {
            Some(Datum::Json(value)) => value.clone(),
            _ => Value::Null,
        }
    }

    /// A text, "" if there is none.
    pub fn text(&self, name: &str) -> String {
        match self.inputs.get(name) {
            Some(Datum::Json(Value::Null)) | None => String::new(),
            Some(Datum::Json(value)) => python::display(value),
            Some(Datum::Conditioning(text)) => text.to_string(),
            Some(other) => python::display(&other.shown()),
        }
    }

    /// A float, or the default.
    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.value(name).as_f64().unwrap_or(default)
    }

    /// A seed or another large integer.
    pub fn whole(&self, name: &str) -> u64 {
        let value = self.value(name);
        value
            .as_u64()
            .unwrap_or_else(|| value.as_i64().map_or(0, i64::unsigned_abs))
    }

    /// A size or a count, or the default.
    pub fn count(&self, name: &str, default: u32) -> u32 {
        let value = self.value(name);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let from_float = |n: f64| n.clamp(0.0, 1e9) as u32;
        value.as_f64().map_or(default, from_float)
    }

    /// A batch of pictures, which validation promised.
    pub fn images(&self, name: &str) -> Result<Arc<Vec<Picture>>, Raised> {
        match self.inputs.get(name) {
            Some(Datum::Images(images)) => Ok(Arc::clone(images)),
            _ => Err(Raised::new(
                "AttributeError",
                format!("'NoneType' object has no attribute 'shape' ({name})"),
            )),
        }
    }

    /// A latent.
    pub fn latent(&self, name: &str) -> Result<Arc<Latent>, Raised> {
        match self.inputs.get(name) {
            Some(Datum::Latent(latent)) => Ok(Arc::clone(latent)),
            _ => Err(Raised::new(
                "TypeError",
                format!("'NoneType' object is not subscriptable ({name})"),
            )),
        }
    }

    /// What an input is, if it is linked.
    pub fn datum(&self, name: &str) -> Option<Datum> {
        self.inputs.get(name).cloned()
    }

    /// Whether sampling shows pictures; in newer versions a prompt may say so itself.
    fn previews(&self) -> bool {
        match self
            .current
            .extra
            .get("preview_method")
            .and_then(Value::as_str)
        {
            Some(method) if self.instance.imitate == Imitate::Current && method != "default" => {
                method != "none"
            }
            _ => self.instance.args.previews(),
        }
    }

    /// Takes the time of a step, looks whether to go on, reports, and shows a picture where
    /// previews are on.
    pub fn step(
        &self,
        value: u64,
        max: u64,
        preview: impl FnOnce(u32) -> Option<Picture>,
    ) -> Result<(), Raised> {
        let pause = self.instance.faults.read(|faults| faults.step_ms);
        if pause > 0 {
            std::thread::sleep(Duration::from_millis(pause));
        }
        self.checkpoint()?;
        let hub = &self.instance.hub;
        let client = self.current.client_id.as_deref();
        self.current.progress(
            self.instance,
            (self.node, self.display),
            json!(value),
            json!(max),
            "running",
        );
        let report = json!({
            "value": value,
            "max": max,
            "prompt_id": self.current.prompt_id,
            "node": self.node
        });
        let picture = (self.previews() && hub.anybody(client))
            .then(|| preview(self.instance.args.preview_size.unwrap_or(512)))
            .flatten()
            .and_then(|picture| jpeg(&picture, 95).ok());
        match (client, &picture) {
            (Some(client), Some(picture)) if hub.wants_preview_metadata(Some(client)) => {
                let metadata = json!({"node_id": self.node, "prompt_id": self.current.prompt_id,
                "display_node_id": self.display,
                    "parent_node_id": null, "real_node_id": self.node, "image_type": "image/jpeg"});
                hub.preview_with_metadata(&metadata, picture, client);
                hub.send("progress", &report, Some(client));
            }
            (client, picture) => {
                hub.send("progress", &report, client);
                if let Some(picture) = picture {
                    hub.preview(1, picture, client);
                }
            }
        }
        Ok(())
    }

    /// Ends the node if an interrupt was asked for; the request is then used up.
    pub fn checkpoint(&self) -> Result<(), Raised> {
        if self.instance.interrupt.swap(false, Ordering::AcqRel) {
            Err(Raised::Interrupted)
        } else {
            Ok(())
        }
    }
}
