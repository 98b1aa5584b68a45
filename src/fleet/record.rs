//! What survives a gateway: its id, and the jobs that go on without it. A folder for each, with
//! what was published, what was claimed, the files, and the result once it has come.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::join;
use super::order::Order;
use super::task::{News, State, Task};
use crate::paths::replace;

const TASK: &str = "task.json";
const BODY: &str = "message.json";
const RESULT: &str = "result.json";
const EVENTS: &str = "events.jsonl";
/// Bytes of events that are kept for one job.
const MOST_EVENTS: u64 = 32 << 20;

/// A job as it stands on the disk.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    token: String,
    queue: usize,
    priority: Option<u8>,
    previews: bool,
    wants_all: bool,
    needs_secrets: bool,
    inputs: Vec<String>,
    address: Option<String>,
    correlations: Vec<String>,
    claimed_by: Option<String>,
    ever_claimed: bool,
    lost: u32,
}

/// The gateway's id, made once. Blocks.
pub(super) fn own_id(dir: &Path) -> io::Result<String> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("id");
    if let Ok(known) = std::fs::read_to_string(&path)
        && uuid::Uuid::parse_str(known.trim()).is_ok()
    {
        return Ok(known.trim().to_owned());
    }
    let id = uuid::Uuid::new_v4().to_string();
    replace(&path, id.as_bytes())?;
    Ok(id)
}

/// Notes how a job stands. Blocks.
pub(super) fn note(task: &Task, with_body: bool) -> io::Result<()> {
    let record = {
        let state = task.state();
        Record {
            id: task.id.to_string(),
            token: task.token.clone(),
            queue: task.queue,
            priority: task.priority,
            previews: task.previews,
            wants_all: task.wants_all,
            needs_secrets: task.needs_secrets,
            inputs: task.inputs.clone(),
            address: task.address.clone(),
            correlations: state.correlations.clone(),
            claimed_by: state.claimed_by.clone(),
            ever_claimed: state.ever_claimed,
            lost: state.lost,
        }
    };
    std::fs::create_dir_all(&task.dir)?;
    if with_body {
        replace(&task.dir.join(BODY), &task.body)?;
    }
    replace(&task.dir.join(TASK), &serde_json::to_vec(&record)?)
}

/// Keeps what was told of a job, for the process after this one.
pub(super) fn append(task: &Task, kind: &str, data: &Value) {
    let path = task.dir.join(EVENTS);
    let Ok(mut line) = serde_json::to_string(&(kind, data)) else {
        return;
    };
    line.push('\n');
    let known = path.metadata().map_or(0, |known| known.len());
    if known + line.len() as u64 > MOST_EVENTS {
        return;
    }
    let opened = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path);
    let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "an event of a job is not kept");
    }
}

/// What was told of a job is worth nothing: it is run anew.
pub(super) fn forget_events(task: &Task) {
    let _ = std::fs::remove_file(task.dir.join(EVENTS));
}

/// Keeps a result that has come. Blocks.
pub(super) fn keep_result(task: &Task, kind: &str, data: &Map<String, Value>) -> io::Result<()> {
    let text = serde_json::to_vec(&(kind, data))?;
    replace(&task.dir.join(RESULT), &text)
}

/// The jobs of the process before; whatever else is there goes. Blocks.
pub(super) fn read(dir: &Path) -> Vec<Arc<Task>> {
    let Ok(entries) = std::fs::read_dir(join(dir, "jobs")) else {
        return Vec::new();
    };
    let mut tasks = Vec::new();
    for entry in entries.flatten() {
        match read_one(&entry.path()) {
            Some(task) => tasks.push(task),
            None => drop(std::fs::remove_dir_all(entry.path())),
        }
    }
    tasks
}

fn read_one(dir: &Path) -> Option<Arc<Task>> {
    let record: Record = serde_json::from_slice(&std::fs::read(dir.join(TASK)).ok()?).ok()?;
    let body = std::fs::read(dir.join(BODY)).ok()?;
    let waits = record.claimed_by.is_none();
    let state = State {
        secrets: Map::new(),
        correlations: record.correlations,
        claimed_by: record.claimed_by,
        ever_claimed: record.ever_claimed,
        lost: record.lost,
        silent: None,
        published: Some(Instant::now()),
        waits_since: waits.then(Instant::now),
        ended: false,
        order: Order::default(),
    };
    let task = Task::new(
        (record.id.into(), record.token, dir.to_path_buf()),
        true,
        (record.queue, record.priority),
        (record.previews, record.wants_all),
        record.needs_secrets,
        (body.into(), record.inputs),
        record.address,
        state,
    );
    let events = std::fs::read_to_string(dir.join(EVENTS)).unwrap_or_default();
    for line in events.lines() {
        if let Ok((kind, data)) = serde_json::from_str::<(String, Value)>(line) {
            super::reply::show(&task, kind, data);
        }
    }
    if let Ok(text) = std::fs::read(dir.join(RESULT))
        && let Ok((kind, data)) = serde_json::from_slice(&text)
    {
        task.state().ended = true;
        task.tell(News::Ended(kind, data));
    }
    Some(task)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_kept_up_to_their_limit_and_the_result_beyond_it() {
        let dir = tempfile::tempdir().unwrap();
        let task = Task::new(
            ("id".into(), "token".to_owned(), dir.path().to_path_buf()),
            true,
            (0, None),
            (false, false),
            false,
            (b"{}".as_slice().into(), Vec::new()),
            None,
            State::default(),
        );
        let events = dir.path().join(EVENTS);
        append(&task, "executing", &json!({"node": "1"}));
        let kept = std::fs::read_to_string(&events).unwrap();
        assert_eq!(kept, "[\"executing\",{\"node\":\"1\"}]\n");
        let file = std::fs::File::options().write(true).open(&events);
        file.unwrap().set_len(MOST_EVENTS - 10).unwrap();
        append(&task, "executing", &json!({"node": "2"}));
        let length = events.metadata().unwrap().len();
        assert_eq!(length, (32 << 20) - 10);
        let result = Map::from_iter([("images".to_owned(), json!([]))]);
        keep_result(&task, "execution_success", &result).unwrap();
        assert!(dir.path().join(RESULT).exists());
    }
}
