//! Lists of jobs, page by page.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};

use super::record::{COLUMNS, JobRecord, record};
use super::status::JobStatus;
use crate::store::{Store, StoreError, now_ms};

/// Which jobs a page of a list shows.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only these transports; empty for all.
    pub sources: Vec<&'static str>,
    /// All of them must match.
    pub labels: Vec<(String, String)>,
    /// Any of them; empty for all.
    pub statuses: Vec<JobStatus>,
    /// Older than this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

impl Store {
    /// One page, newest first, and whether there is more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_jobs(&self, query: ListQuery) -> Result<(Vec<JobRecord>, bool), StoreError> {
        self.read(move |db| list(db, &query)).await
    }
}

fn columns() -> String {
    let names = COLUMNS.split(", ");
    let names: Vec<_> = names.map(|name| format!("j.{}", name.trim())).collect();
    names.join(", ")
}

fn list(db: &Connection, query: &ListQuery) -> Result<(Vec<JobRecord>, bool), StoreError> {
    let mut values: Vec<Sql> = Vec::new();
    // The first label leads, so that a rare one is found without a look at all jobs.
    let (from, seq) = match query.labels.first() {
        Some((key, value)) => {
            values.extend([Sql::from(key.clone()), Sql::from(value.clone())]);
            (
                "labels l JOIN jobs j ON j.seq = l.seq WHERE l.key = ? AND l.value = ?",
                "l.seq",
            )
        }
        None => ("jobs j WHERE 1", "j.seq"),
    };
    let mut sql = format!("SELECT {} FROM {from}", columns());
    for (key, value) in query.labels.iter().skip(1) {
        sql.push_str(
            " AND EXISTS (SELECT 1 FROM labels m WHERE m.key = ? AND m.value = ? AND m.seq = \
             j.seq)",
        );
        values.extend([Sql::from(key.clone()), Sql::from(value.clone())]);
    }
    let mut one_of = |column: &str, words: Vec<String>| {
        if !words.is_empty() {
            let marks = vec!["?"; words.len()].join(", ");
            sql.push_str(&format!(" AND {column} IN ({marks})"));
            values.extend(words.into_iter().map(Sql::from));
        }
    };
    one_of(
        "j.source",
        query
            .sources
            .iter()
            .map(|word| (*word).to_owned())
            .collect(),
    );
    one_of(
        "j.status",
        query
            .statuses
            .iter()
            .map(|status| status.as_str().to_owned())
            .collect(),
    );
    sql.push_str(" AND (j.completed_at IS NULL OR j.expires_at > ?)");
    values.push(Sql::from(now_ms()));
    if let Some(before) = query.before {
        sql.push_str(&format!(" AND {seq} < ?"));
        values.push(Sql::from(before));
    }
    sql.push_str(&format!(" ORDER BY {seq} DESC LIMIT ?"));
    values.push(Sql::from(
        i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1,
    ));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), record)?;
    let mut jobs: Vec<JobRecord> = rows.collect::<rusqlite::Result<_>>()?;
    let more = jobs.len() > query.limit;
    jobs.truncate(query.limit);
    Ok((jobs, more))
}
