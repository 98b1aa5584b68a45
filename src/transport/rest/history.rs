//! `GET /history`, `GET /history/{id}`, `DELETE /history/{id}`, `DELETE /history`: what was run
//! (console.md).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::RouterState;
use super::path::PathText;
use super::query::Query;
use crate::error::{Code, Failure};
use crate::history::{HistoryQuery, Place};
use crate::job::Source;
use crate::job::registry::Status;
use crate::limits::text::quoted;
use crate::transport::v2::address::Base;

/// Runs of a page, and how many there can be.
const PAGE: usize = 50;
const LONGEST_PAGE: usize = 200;
/// Characters of a text that is looked for.
const LONGEST_TEXT: usize = 1000;

const STATUSES: &[(&str, Status)] = &[
    ("preprocessing", Status::Preprocessing),
    ("pending", Status::Pending),
    ("running", Status::Running),
    ("postprocessing", Status::Postprocessing),
    ("uploading", Status::Uploading),
    ("succeeded", Status::Succeeded),
    ("failed", Status::Failed),
    ("interrupted", Status::Interrupted),
];

/// `GET /history`
pub async fn list(
    State(state): State<RouterState>,
    query: Query,
    base: Base,
) -> Result<Response, Failure> {
    let (runs, next) = state.history.list(asked(&query)?).await?;
    let items = state.history.shown(&runs, &base.absolute).await;
    let next = next.map(|place| place.text());
    Ok(Json(json!({"items": items, "next": next})).into_response())
}

/// `GET /history/{id}`
pub async fn show(
    State(state): State<RouterState>,
    PathText(id): PathText,
    base: Base,
) -> Result<Response, Failure> {
    let run = state.history.run(&id).await?.ok_or_else(|| unknown(&id))?;
    let mut shown = state.history.shown(&[run], &base.absolute).await;
    Ok(Json(shown.pop()).into_response())
}

/// `DELETE /history/{id}`
pub async fn delete(
    State(state): State<RouterState>,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    if state.history.delete(&id).await? {
        Ok(Json(json!({"deleted": 1})).into_response())
    } else {
        Err(unknown(&id))
    }
}

/// `DELETE /history`
pub async fn clear(State(state): State<RouterState>, query: Query) -> Result<Response, Failure> {
    let query = HistoryQuery {
        before: None,
        ..asked(&query)?
    };
    let deleted = state.history.delete_all(query).await?;
    Ok(Json(json!({"deleted": deleted})).into_response())
}

fn unknown(id: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!(
            "no run with the id \"{}\" is remembered here: see GET /history for those that are",
            quoted(id)
        ),
    )
}

fn asked(query: &Query) -> Result<HistoryQuery, Failure> {
    let before = query.text("before").map(|text| {
        Place::parse(text).ok_or_else(|| {
            Failure::invalid(
                "before",
                "\"before\" is not a place in this list: use \"next\" of the page before",
            )
        })
    });
    let text = query.text("q");
    if text.is_some_and(|text| text.chars().nth(LONGEST_TEXT).is_some()) {
        return Err(Failure::invalid(
            "q",
            format!("\"q\" has more than {LONGEST_TEXT} characters"),
        ));
    }
    Ok(HistoryQuery {
        statuses: statuses(query.text("status"))?,
        source: source(query.text("source"))?,
        workflow: query.text("workflow").map(workflow),
        text: text.map(str::to_lowercase),
        before: before.transpose()?,
        limit: query.number("limit", PAGE, LONGEST_PAGE)?,
    })
}

fn statuses(list: Option<&str>) -> Result<Vec<Status>, Failure> {
    let words = list.into_iter().flat_map(|list| list.split(','));
    words
        .map(|word| {
            let found = STATUSES.iter().find(|(known, _)| *known == word.trim());
            found.map(|(_, status)| *status).ok_or_else(|| {
                let known: Vec<&str> = STATUSES.iter().map(|(known, _)| *known).collect();
                Failure::invalid(
                    "status",
                    format!(
                        "\"{}\" is no \"status\": use one of {}",
                        quoted(word),
                        known.join(", ")
                    ),
                )
            })
        })
        .collect()
}

fn source(word: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(word) = word else {
        return Ok(None);
    };
    let known = Source::ALL.map(Source::as_str);
    if known.contains(&word) {
        return Ok(Some(word.to_owned()));
    }
    Err(Failure::invalid(
        "source",
        format!(
            "\"{}\" is no \"source\": use one of {}",
            quoted(word),
            known.join(", ")
        ),
    ))
}

/// What follows `/workflow/`, however it is written.
fn workflow(text: &str) -> String {
    let path = text.trim_start_matches('/');
    let path = path.strip_prefix("workflow/").unwrap_or(path);
    path.to_owned()
}
