//! Graphs as people have them: what was handed in, and what ComfyUI's API takes.
//!
//! ComfyUI's editor saves *UI format* (`nodes`, `links`), its API takes *API format* (a map of node
//! ids). [`ui`] makes the second of the first as the editor does when *Run* is pressed, from the
//! file and [`catalogue`] alone; [`embedded`] finds graphs inside pictures, videos and sounds;
//! [`recognise`] says which of them something is; [`form`] lists what can be filled in. Nothing
//! here does I/O.

pub mod catalogue;
pub mod embedded;
pub mod form;
pub mod recognise;
pub mod ui;
