//! A job comes: its queue and priority are checked, its files are put where instances find them; or
//! it is known already.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::publish::too_large;
use crate::error::{Code, Failure};
use crate::fleet::task::{State, Task};
use crate::fleet::{Inner, files};
use crate::job::remote::Errand;

/// The priority of a job with `front`.
const FRONT: u8 = 9;

/// What a property of a message holds, in bytes; a longer id travels in the body.
const LONGEST_ID: usize = 255;

/// Priorities of messages.
const PRIORITIES: std::ops::RangeInclusive<u64> = 0..=9;

/// A job of the process before; whether it has to be published anew, and which publications count
/// no more.
pub(super) fn taken_up(inner: &Inner, errand: &Errand) -> Option<(Arc<Task>, bool, Vec<String>)> {
    let known = inner.tasks.by_id(&errand.job.id)?;
    known.state().secrets = secrets(errand);
    let address = inner.address_of(&known.token);
    if known.address == address || known.state().ended {
        let there = {
            let state = known.state();
            state.ended || state.ever_claimed || !state.correlations.is_empty()
        };
        return Some((known, !there, Vec::new()));
    }
    // Instances cannot find their way here any more: what was published is worth nothing.
    let (from, superseded) = (known.address.clone(), known.state().correlations.clone());
    inner.end(&known);
    let state = std::mem::take(&mut *known.state());
    let body = match (from, &address) {
        (Some(from), Some(to)) => {
            let text = String::from_utf8_lossy(&known.body).replace(&from, to);
            Bytes::from(text)
        }
        _ => known.body.clone(),
    };
    let state = State {
        secrets: state.secrets,
        lost: state.lost,
        ..State::default()
    };
    let task = Task::new(
        (known.id.clone(), known.token.clone(), known.dir.clone()),
        true,
        (known.queue, known.priority),
        (known.previews, known.wants_all),
        known.needs_secrets,
        (body, known.inputs.clone()),
        address,
        state,
    );
    inner.tasks.insert(&task);
    Some((task, true, superseded))
}

pub(super) fn secrets(errand: &Errand) -> Map<String, Value> {
    let both = [
        ("credentials", &errand.credentials),
        ("extra_data", &errand.extra_data),
    ];
    let some = both.into_iter().filter_map(|(name, value)| {
        let value = value.clone()?;
        Some((name.to_owned(), value))
    });
    some.collect()
}

/// A new job: its queue is checked, its files are put where instances find them.
pub(super) async fn begin(inner: &Arc<Inner>, errand: Box<Errand>) -> Result<Arc<Task>, Failure> {
    let errand = *errand;
    let queue = queue(inner, errand.queue.as_ref())?;
    let asked = priority(errand.priority.as_ref())?;
    // What is to be in front goes before all that wait, here as in a queue of ComfyUI.
    let front = errand.body.get("front") == Some(&Value::Bool(true));
    let priority = asked.or(front.then_some(FRONT));
    let token = inner.token(&errand.job);
    let dir = inner.task_dir(&token);
    let secrets = secrets(&errand);
    let mut body = errand.body;
    if errand.job.id.len() > LONGEST_ID {
        body.insert("id".to_owned(), (*errand.job.id).into());
    }
    let body = serde_json::to_vec(&body).map_err(|error| {
        let message = format!("the job cannot be written as JSON: {error}");
        Failure::new(Code::Internal, message)
    })?;
    let longest = inner.publisher.longest();
    if body.len() > longest {
        return Err(too_large(longest));
    }
    let inputs = files::place(&dir, errand.inputs).await?;
    let task = Task::new(
        (errand.job.id.clone(), token.clone(), dir),
        errand.kept,
        (queue, priority),
        (errand.previews, errand.wants_all),
        !secrets.is_empty(),
        (body.into(), inputs),
        inner.address_of(&token),
        State {
            secrets,
            ..State::default()
        },
    );
    inner.tasks.insert(&task);
    Ok(task)
}

pub(super) fn queue(inner: &Inner, wanted: Option<&Value>) -> Result<usize, Failure> {
    let Some(wanted) = wanted else { return Ok(0) };
    let queues = &inner.gateway.queues;
    let known = |name: &str| queues.iter().position(|queue| queue == name);
    wanted.as_str().and_then(known).ok_or_else(|| {
        let list = queues.join(", ");
        Failure::invalid("queue", format!("\"queue\" must be one of: {list}"))
    })
}

pub(super) fn priority(wanted: Option<&Value>) -> Result<Option<u8>, Failure> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let number = wanted.as_u64().filter(|number| PRIORITIES.contains(number));
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        Failure::invalid(
            "priority",
            "\"priority\" must be a whole number from 0 to 9",
        )
    })
}
