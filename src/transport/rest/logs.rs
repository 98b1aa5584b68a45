//! `GET /logs`: the last lines of ComfyUI and of the server.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};

use super::query::Query;
use crate::error::Failure;
use crate::limits::LOG_LINES_KEPT;
use crate::telemetry::recent::{LogLine, Printer, Selection, Severity, recent};

/// Lines where nobody says how many.
pub const LINES: usize = 200;

/// `GET /logs`
pub async fn logs(query: Query) -> Result<Response, Failure> {
    let sources = [
        ("comfyui", Some(Printer::Comfyui)),
        ("server", Some(Printer::Server)),
        ("all", None),
    ];
    // An empty one means all, as that of a form where nothing is chosen.
    let levels = ["", "trace", "debug", "info", "warn", "error", "fatal"];
    let levels = levels.map(|word| (word, Severity::of(word)));
    let wanted = Selection {
        source: query.word("source", &sources)?.flatten(),
        level: query.word("level", &levels)?.flatten(),
        prompt_id: query
            .text("prompt_id")
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
    };
    let most = query.number("lines", LINES, LOG_LINES_KEPT)?;
    let (lines, _) = recent().last(most, &wanted);
    let lines: Vec<&LogLine> = lines.iter().map(Arc::as_ref).collect();
    Ok(Json(lines).into_response())
}
