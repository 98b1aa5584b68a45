//! Marks in the text of a document, where files go.

/// The string that a document with files replaces by `files[index]`. `mark` must not occur in it
/// otherwise: a UUID.
pub fn placeholder(mark: &str, index: usize) -> String {
    format!("{mark}:{index}")
}

pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    // Placeholders are few and `"` begins each: jumping from quote to quote is fast enough for
    // graphs of megabytes.
    let mut from = 0;
    while let Some(quote) = text[from..].iter().position(|byte| *byte == needle[0]) {
        let at = from + quote;
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}
