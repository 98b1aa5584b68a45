//! Runs that go on under another id: nodes that work through a video in parts put their own graph
//! into ComfyUI's queue again at the end of each part (F27).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::cancelling;
use super::outputs::{NodeOutput, says_unfinished};
use super::registry::Job;
use super::request::Graph;
use crate::comfy::Comfy;
use crate::comfy::watch::issued_here;
use crate::error::{Code, Failure};
use crate::net::retry::Pauses;

/// How long the next part may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What the parts of a run have in common.
#[derive(Debug, Clone)]
pub struct Family {
    /// The client's graph, as it was submitted.
    pub graph: Graph,
    /// The socket that is told of all parts.
    pub client_id: String,
    /// The ids of the parts so far.
    pub parts: HashSet<String>,
}

/// Whether the nodes of a run have said that it is not the last part.
pub fn announced(outputs: &[NodeOutput]) -> bool {
    outputs.iter().any(|node| says_unfinished(&node.output))
}

/// The id of the part that follows.
///
/// # Errors
/// When there is none in time, ComfyUI does not answer, or the prompt was stopped.
pub async fn next(comfy: &Comfy, job: &Job, family: &Family) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        if let Some(id) = find(comfy, family).await? {
            return Ok(id);
        }
        if Instant::now() >= deadline {
            let message = format!(
                "a node said that its batch is unfinished, but within {} s no further run of the \
                 graph has appeared in ComfyUI's queue",
                PATIENCE.as_secs()
            );
            return Err(Failure::new(Code::ExecutionError, message));
        }
        tokio::select! {
            () = pauses.wait() => {}
            () = job.cancel.cancelled() => return Err(job.stop_reason()),
        }
    }
}

/// A prompt that was stopped or failed may have put its next part into the queue already: it is
/// taken out.
pub async fn give_up(comfy: &Comfy, mut family: Family) {
    while let Ok(Some(id)) = find(comfy, &family).await {
        cancelling::abandon(comfy, &id).await;
        family.parts.insert(id);
    }
}

async fn find(comfy: &Comfy, family: &Family) -> Result<Option<String>, Failure> {
    let known = comfy.client.known_runs().await?;
    let next = known.into_iter().find(|run| {
        run.client_id.as_ref() == Some(&family.client_id)
            && !issued_here(&run.id)
            && !family.parts.contains(&run.id)
            && goes_on(&family.graph, &run.graph)
    });
    Ok(next.map(|run| run.id))
}

/// Whether a graph is another part of ours: the same nodes and classes, and the prefixes that we
/// made.
fn goes_on(ours: &Map<String, Value>, other: &Value) -> bool {
    let Some(other) = other.as_object() else {
        return false;
    };
    let same = |(id, node): (&String, &Value)| {
        other.get(id).is_some_and(|other| {
            let same = |pointer| node.pointer(pointer) == other.pointer(pointer);
            same("/class_type") && same("/inputs/filename_prefix")
        })
    };
    ours.len() == other.len() && ours.iter().all(same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_has_the_same_nodes_and_prefixes() {
        let graph = |class: &str, prefix: &str, requeue: u32| {
            json!({
                "1": {"class_type": class, "inputs": {"requeue": requeue}},
                "9": {"class_type": "Save", "inputs": {"filename_prefix": prefix}}
            })
        };
        let ours = graph("Batch", "id_x", 0);
        for (other, expected) in [
            (graph("Batch", "id_x", 1), true),
            (graph("Batch", "other_x", 1), false),
            (graph("Other", "id_x", 1), false),
            (json!({"1": ours["1"]}), false),
            (json!([]), false),
        ] {
            assert_eq!(
                goes_on(ours.as_object().unwrap(), &other),
                expected,
                "{other}"
            );
        }
    }
}
