//! ComfyUI as we see it: client, messages, socket, how a prompt ends, what it offers; and the supervisor of the child.
pub mod supervisor;
