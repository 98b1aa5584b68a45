//! Ids that are given to ComfyUI.

/// What the ids of this process's prompts end in, so that they are told from those that ComfyUI
/// makes up.
static ISSUED: std::sync::LazyLock<[u8; 6]> = std::sync::LazyLock::new(|| {
    let [.., a, b, c, d, e, f] = *uuid::Uuid::new_v4().as_bytes();
    [a, b, c, d, e, f]
});

/// A new id for a prompt, which [`issued_here`] knows again.
pub fn new_prompt_id() -> String {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[10..].copy_from_slice(&*ISSUED);
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// Whether a prompt id was made up by this process.
pub fn issued_here(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|id| id.as_bytes()[10..] == ISSUED[..])
}

/// ComfyUI wants canonical lower-case UUIDs (comfyui.md, section 10).
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
