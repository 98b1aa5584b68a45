//! JavaScript exceptions as text, and the place in the user's file that they come from.

use rquickjs::{CaughtError, Ctx};

use super::library::Library;
use crate::workflow::source::Fault;

/// What was thrown.
#[derive(Debug, Clone, Default)]
pub struct ScriptError {
    /// The message alone.
    pub message: String,
    /// The engine's stack, one frame a line; may be empty.
    pub stack: String,
    /// The engine itself had no more memory.
    pub memory: bool,
}

/// Takes the pending exception.
pub fn thrown(ctx: &Ctx<'_>, error: rquickjs::Error) -> ScriptError {
    match CaughtError::from_error(ctx, error) {
        CaughtError::Exception(exception) => {
            let message = exception.message().unwrap_or_default();
            let memory = message == "out of memory"
                && exception
                    .get::<_, String>("name")
                    .is_ok_and(|name| name == "InternalError");
            let stack = exception.stack().unwrap_or_default();
            // Ours carry their place below the message.
            let (message, place) = message
                .split_once("\n    at ")
                .map(|(message, place)| (message.to_owned(), format!("    at {place}\n")))
                .unwrap_or((message, String::new()));
            ScriptError {
                message,
                stack: format!("{place}{stack}"),
                memory,
            }
        }
        CaughtError::Value(value) => {
            let message = value
                .as_string()
                .and_then(|text| text.to_string().ok())
                .or_else(|| {
                    ctx.json_stringify(value)
                        .ok()
                        .flatten()
                        .and_then(|text| text.to_string().ok())
                })
                .unwrap_or_else(|| "something that is not an error was thrown".to_owned());
            ScriptError {
                message,
                ..ScriptError::default()
            }
        }
        CaughtError::Error(error) => ScriptError {
            message: error.to_string(),
            memory: matches!(error, rquickjs::Error::Allocation),
            ..ScriptError::default()
        },
    }
}

/// The fault behind an import that means nothing. The engine does not say where it stands; the file
/// does.
pub fn unresolved(message: &str) -> Option<Fault> {
    let (name, rest) = message
        .strip_prefix("Error resolving module '")?
        .split_once("' from '")?;
    let (file, reason) = rest.split_once("': ")?;
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = ["\"", "'", "`"]
        .iter()
        .find_map(|quote| text.find(&format!("{quote}{name}{quote}")));
    let before = text.get(..found.unwrap_or(0)).unwrap_or_default();
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    let (line, column) = (
        u32::try_from(before.matches('\n').count() + 1).ok()?,
        u32::try_from(column).ok()?,
    );
    Some(Fault {
        message: reason.to_owned(),
        file: file.to_owned(),
        line,
        column,
    })
}

/// File, line and column (from 1) of the first frame that lies in a file of the user.
pub fn place(library: &Library, thrown: &ScriptError) -> Option<(String, u32, u32)> {
    thrown.stack.lines().find_map(|frame| {
        let frame = frame.trim().strip_prefix("at ")?;
        let place = frame
            .rsplit_once('(')
            .map_or(frame, |(_, place)| place)
            .trim_end_matches(')');
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let (line, column) = (line.parse().ok()?, column.parse().ok()?);
        let (line, column) = library.locate(file, line, column)?;
        Some((file.to_owned(), line, column))
    })
}
