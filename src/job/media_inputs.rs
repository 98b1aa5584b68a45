//! Which inputs take media, for those who show or describe graphs.

use super::preprocess;
use crate::comfy::catalogue::Catalogue;

/// Whether a text in this input is a picture, a video, a sound or another file, or a list of them.
pub fn takes_media(class: &str, input: &str, catalogue: &Catalogue) -> bool {
    preprocess::is_media(class, input, catalogue) || preprocess::is_directory(class, input)
}
