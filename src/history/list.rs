//! The one list of memory and store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::item::{RunView, has_ended};
use super::memory::{Remembered, Written};
use super::query::{HistoryQuery, Place};
use super::{Inner, stored};
use crate::job::registry::JobSnapshot;
use crate::store::StoreError;
use crate::store::runs::RunQuery;

/// Those in flight, as `/queue` shows them.
type Flying = HashMap<Arc<str>, JobSnapshot>;

fn flying(inner: &Inner) -> Flying {
    let (running, pending, _) = inner.service.lists();
    let all = running.into_iter().chain(pending);
    all.map(|entry| (entry.id.clone(), entry)).collect()
}

/// A run in memory. `None` when it is just about to be told of.
fn view(inner: &Inner, run: &Remembered, flying: &Flying) -> Option<RunView> {
    let snapshot = match &run.end {
        Some(end) => Some(end.snapshot.clone()),
        None => flying.get(&run.id).cloned(),
    };
    let mut snapshot = snapshot.or_else(|| inner.service.entry(&run.id))?;
    if let Some(created_at) = run.created_at {
        snapshot.created_at = created_at;
    }
    let outputs = match &run.end {
        Some(end) => end.outputs.clone(),
        None => {
            let live = inner.durable.live_run(&run.id);
            live.map(|live| stored::as_outputs(live.outputs()))
                .unwrap_or_default()
        }
    };
    Some(RunView {
        snapshot,
        workflow: run.workflow.as_deref().map(str::to_owned),
        outputs,
        details: None,
    })
}

/// Whether the text of a query is in a run in memory.
fn found(run: &Remembered, view: &RunView, query: &HistoryQuery) -> bool {
    if query.text.is_none() {
        return true;
    }
    let texts = [
        Some(&*run.id),
        view.workflow.as_deref(),
        view.snapshot.error.as_deref(),
    ];
    if query.finds(texts.into_iter().flatten()) {
        return true;
    }
    let request = run.request.as_ref().map(Written::text);
    let error = run.end.as_ref().map(|end| end.error.text());
    query.finds([request, error].into_iter().flatten())
}

/// Runs in memory that a query shows, and the ids of all that are shown from memory whatever the
/// query says.
fn remembered(inner: &Inner, query: &HistoryQuery) -> (Vec<RunView>, HashMap<String, bool>) {
    let flying = flying(inner);
    let mut shown = Vec::new();
    let mut ids = HashMap::new();
    for run in inner.memory.all() {
        let Some(view) = view(inner, &run, &flying) else {
            continue;
        };
        // Of a kept one that has ended the record knows as much, and lives longer.
        ids.insert(run.id.to_string(), run.kept && run.end.is_some());
        if query.shows(&view) && found(&run, &view, query) {
            shown.push(view);
        }
    }
    (shown, ids)
}

/// One page, newest first, and where the next begins.
pub(super) async fn page(
    inner: &Inner,
    query: HistoryQuery,
) -> Result<(Vec<RunView>, Option<Place>), StoreError> {
    let (mut runs, in_memory) = remembered(inner, &query);
    let limit = query.limit;
    let (rows, more) = rows(inner, query, limit, in_memory.clone()).await?;
    let recorded: HashSet<String> = rows.iter().map(|run| run.snapshot.id.to_string()).collect();
    runs.retain(|run| !recorded.contains(&*run.snapshot.id));
    runs.extend(rows);
    runs.sort_by_cached_key(|run| std::cmp::Reverse(run.place()));
    let more = more || runs.len() > limit;
    runs.truncate(limit);
    let next = runs.last().filter(|_| more).map(RunView::place);
    Ok((runs, next))
}

/// What the store has that a query shows, but for what memory shows better.
async fn rows(
    inner: &Inner,
    query: HistoryQuery,
    limit: usize,
    in_memory: HashMap<String, bool>,
) -> Result<(Vec<RunView>, bool), StoreError> {
    let asked = RunQuery {
        source: query.source.clone(),
        workflow: query.workflow.clone(),
        statuses: query.record_statuses(),
        before: query.before.clone().map(|place| (place.at, place.id)),
        limit,
        with_request: query.text.is_some(),
    };
    let store = inner.durable.store();
    let (rows, more) = store
        .list_runs(asked, move |row| {
            let ended = row.record.status.has_ended();
            match in_memory.get(&row.record.id) {
                Some(kept) if !(*kept && ended) => return false,
                _ => {}
            }
            let view = stored::view(row);
            query.shows(&view) && stored::found(row, &query)
        })
        .await?;
    Ok((rows.iter().map(stored::view).collect(), more))
}

/// One run with everything that is known of it.
pub(super) async fn one(inner: &Inner, id: &str) -> Result<Option<RunView>, StoreError> {
    let run = inner.memory.get(id);
    let row = inner.durable.store().run(id).await?;
    if let Some(row) = row {
        let ended = row.record.status.has_ended();
        let better = run
            .as_ref()
            .is_none_or(|run| run.kept && run.end.is_some() && ended);
        if better {
            return stored::whole(inner, row).await.map(Some);
        }
    }
    let Some(run) = run else {
        return Ok(None);
    };
    let mut flying = Flying::new();
    flying.extend(
        inner
            .service
            .entry(id)
            .map(|entry| (entry.id.clone(), entry)),
    );
    Ok(view(inner, &run, &flying).map(|view| RunView {
        details: Some(run.details()),
        ..view
    }))
}

/// The ids of all ended runs that a query shows.
pub(super) async fn ended(inner: &Inner, query: HistoryQuery) -> Result<Vec<String>, StoreError> {
    let (runs, in_memory) = remembered(inner, &query);
    let (rows, _) = rows(inner, query, usize::MAX - 1, in_memory).await?;
    let all = runs.into_iter().chain(rows);
    let ids: HashSet<String> = all
        .filter(|run| has_ended(run.snapshot.status))
        .map(|run| run.snapshot.id.to_string())
        .collect();
    Ok(ids.into_iter().collect())
}

impl Inner {
    /// Runs that have changed since a version, newest first.
    pub(super) fn changed_since(&self, version: u64) -> Vec<RunView> {
        let flying = flying(self);
        let runs = self.memory.since(version);
        runs.iter()
            .filter_map(|run| view(self, run, &flying))
            .collect()
    }
}
