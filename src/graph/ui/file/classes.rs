//! Classes that only the editor knows.

/// Classes of rgthree-comfy that exist in the editor alone.
pub(super) fn is_editor_only(class: &str) -> bool {
    class.strip_suffix(" (rgthree)").is_some_and(|name| {
        matches!(
            name,
            "Fast Muter"
                | "Fast Bypasser"
                | "Fast Groups Muter"
                | "Fast Groups Bypasser"
                | "Mute / Bypass Repeater"
                | "Mute / Bypass Relay"
                | "Fast Actions Button"
                | "Node Collector"
                | "Node Combiner"
                | "Random Unmuter"
                | "Label"
                | "Bookmark"
        )
    })
}

/// Classes of cg-use-everywhere.
pub fn is_broadcaster(class: &str) -> bool {
    matches!(
        class,
        "Anything Everywhere"
            | "Anything Everywhere3"
            | "Anything Everywhere?"
            | "Prompts Everywhere"
            | "Seed Everywhere"
    )
}

pub(super) fn is_uuid(class: &str) -> bool {
    class.len() == 36
        && class.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
