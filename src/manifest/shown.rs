//! The output of commands as it is shown with an error.

/// Lines shown with an error.
const SHOWN_LINES: usize = 30;

/// The end of a command's output, ready to be put behind a sentence.
pub(super) fn last_lines(lines: &[String]) -> String {
    let shown = lines
        .get(lines.len().saturating_sub(SHOWN_LINES)..)
        .unwrap_or_default();
    if shown.is_empty() {
        String::new()
    } else {
        format!(". Its last lines:\n{}", shown.join("\n"))
    }
}
