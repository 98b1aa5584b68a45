//! `GET /jobs`: newest first, page by page.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::address::Base;
use super::error::ApiError;
use super::{V2State, labels, view};
use crate::store::{JobStatus, ListQuery};

const USUAL: usize = 50;
const MOST: usize = 100;
const LABELS: usize = 3;

pub async fn list(
    State(state): State<V2State>,
    base: Base,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = read(query.as_deref().unwrap_or_default(), &state)?;
    let statuses = query.statuses.clone();
    let store = state.jobs.store();
    let (records, more) = store.list_jobs(query).await?;
    let last = records.last().map(|record| record.seq);
    let items: Vec<_> = records
        .iter()
        .filter_map(|record| {
            // What is recorded may be a moment behind.
            let status = state.jobs.status_now(&record.id).unwrap_or(record.status);
            let wanted = statuses.is_empty() || statuses.contains(&status);
            wanted.then(|| view::item(&state, &base, record, status))
        })
        .collect();
    let mut page = json!({"jobs": items});
    if let Some(last) = last.filter(|_| more) {
        page["next_cursor"] = store.cursor(last).into();
    }
    Ok(Json(page).into_response())
}

/// The key of `metadata[<key>]=<value>`, which is to be one more than the `known` ones.
fn label<'a>(key: &'a str, value: &str, known: &[(String, String)]) -> Result<&'a str, ApiError> {
    let filter = |message: String| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_metadata_filter", message)
    };
    let key = key
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|key| labels::is_key(key))
        .ok_or_else(|| {
            filter(
                "write a filter as metadata[<key>]=<value>, with a key that a label \
                 may have"
                    .into(),
            )
        })?;
    if !labels::is_value(value) {
        return Err(filter(format!(
            "the value of metadata[{key}] is none that a label may have"
        )));
    }
    if known.iter().any(|(one, _)| one == key) {
        return Err(filter(format!("metadata[{key}] is there twice")));
    }
    if known.len() == LABELS {
        return Err(filter(format!(
            "at most {LABELS} labels can be asked for at once"
        )));
    }
    Ok(key)
}

fn read(query: &str, state: &V2State) -> Result<ListQuery, ApiError> {
    let mut wanted = ListQuery {
        sources: vec!["v2", "mcp"],
        limit: USUAL,
        ..ListQuery::default()
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "limit" => {
                wanted.limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MOST).contains(limit))
                    .ok_or_else(|| {
                        ApiError::invalid(format!("\"limit\" must be a number from 1 to {MOST}"))
                    })?;
            }
            "cursor" => {
                let place = state.jobs.store().place(&value).ok_or_else(|| {
                    ApiError::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_cursor",
                        "\"cursor\" is not one that this server has given: begin again without it",
                    )
                })?;
                wanted.before = Some(place);
            }
            "status" => {
                for word in value.split(',').map(str::trim) {
                    let shown: String = word.chars().take(40).collect();
                    wanted.statuses.push(JobStatus::parse(word).ok_or_else(|| {
                        let known = JobStatus::ALL.map(JobStatus::as_str).join(", ");
                        ApiError::invalid(format!("\"{shown}\" is not a status: use {known}"))
                    })?);
                }
            }
            other => {
                let Some(key) = other.strip_prefix("metadata") else {
                    continue;
                };
                let key = label(key, &value, &wanted.labels)?;
                wanted.labels.push((key.to_owned(), value.into_owned()));
            }
        }
    }
    Ok(wanted)
}
