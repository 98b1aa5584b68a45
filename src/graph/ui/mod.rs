//! UI format to API format, as ComfyUI's editor converts it when *Run* is pressed.
//!
//! Pure: the file, the node classes, the local time and a source of chance are all there is. The
//! steps, each on the result of the one before: [`file`] reads the graphs and makes ids unique,
//! [`assemble`] gives nodes the sockets and widgets of their classes ([`sockets`]), places links
//! ([`links`]) and promoted widgets ([`promote`]); then broadcasts ([`everywhere`]), types
//! ([`types`]) and primitives ([`primitive`]); [`expand`] lays subgraphs open, [`resolve`] follows
//! links to where they begin, [`result`] writes the graph. Nothing recurses over the input.

pub mod app_mode;
mod assemble;
mod error;
mod everywhere;
mod expand;
mod file;
mod links;
mod model;
mod names;
pub mod naming;
mod primitive;
mod promote;
mod resolve;
mod result;
mod saved;
mod sockets;
mod text;
mod types;
mod unknown;

use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};

use super::catalogue::NodeClasses;
pub use error::{ConversionError, Offender};

/// Subgraphs within subgraphs.
const DEEPEST: usize = 1000;
/// Nodes of the graph, subgraphs laid open.
const MOST_NODES: usize = 100_000;
/// Bytes of all execution ids together.
const MOST_ID_TEXT: usize = 64 * 1024 * 1024;

/// A converted workflow.
#[derive(Debug)]
pub struct Conversion {
    /// The API-format graph.
    pub prompt: Map<String, Value>,
    /// What did not go as the file says.
    pub warnings: Vec<String>,
    /// Titles of the instances of subgraphs, by execution id.
    pub instances: naming::Instances,
}

/// What conversion takes from the world around it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Local time, for file names.
    pub now: jiff::civil::DateTime,
    /// For choices by chance.
    pub seed: u64,
}

impl Moment {
    /// Now, and by chance.
    pub fn now() -> Self {
        Self {
            now: jiff::Zoned::now().datetime(),
            seed: rand::random(),
        }
    }
}

/// Converts a workflow in UI format.
///
/// # Errors
/// When the workflow cannot be converted, with the reason.
pub fn convert(
    workflow: &Map<String, Value>,
    classes: &NodeClasses,
    moment: Moment,
) -> Result<Conversion, ConversionError> {
    convert_with(workflow, classes, moment, &[])
}

/// The same with widgets set to other values before.
///
/// # Errors
/// When the workflow cannot be converted, with the reason.
pub fn convert_with(
    workflow: &Map<String, Value>,
    classes: &NodeClasses,
    moment: Moment,
    settings: &[app_mode::Setting],
) -> Result<Conversion, ConversionError> {
    let read = file::read(workflow, classes)?;
    let (mut workflow, order) = assemble::assemble(read, classes)?;
    app_mode::set(&mut workflow, settings);
    let mut random = rand::rngs::SmallRng::seed_from_u64(moment.seed);
    for graph in &order {
        unknown::unmute_by_chance(&mut workflow, *graph, &mut |count| {
            random.random_range(0..count)
        });
        types::match_groups(&mut workflow, *graph);
        everywhere::connect(&mut workflow, *graph);
    }
    unknown::skip_editor_only(&mut workflow, &order);
    let names = names::Names::read(&workflow, moment.now);
    for graph in &order {
        primitive::write(&mut workflow, *graph, &names);
    }
    let frames = expand::Frames::open(&workflow)?;
    let mut warnings = std::mem::take(&mut workflow.warnings);
    let random = std::cell::RefCell::new(random);
    let mut around = result::Surroundings {
        names: &names,
        chance: &mut |count: usize| random.borrow_mut().random_range(0..count.max(1)),
        between: &mut |from, to| random.borrow_mut().random_range(from..to),
    };
    let prompt = result::graph(&workflow, &frames, &mut around, &mut warnings)?;
    Ok(Conversion {
        prompt,
        warnings: warnings.into_texts(),
        instances: frames.instances(&workflow),
    })
}
