//! The node classes: what they declare, and what they do.

mod audio;
mod call;
mod custom_sampling;
mod files;
mod image;
mod loaders;
mod outputs;
mod packs;
mod probes;
mod sampling;
mod spec;
mod video;

pub use call::{Call, Datum, Raised};
pub use spec::{Class, Input, Kind, Shape};

use std::collections::HashMap;

use super::args::Imitate;

/// Every class, in the order of `/object_info`.
#[derive(Debug)]
pub struct Classes {
    list: Vec<Class>,
    by_name: HashMap<&'static str, usize>,
}

impl Classes {
    /// The classes of a version but for some.
    pub fn new(imitate: Imitate, without: &[String]) -> Self {
        let mut list = Vec::new();
        list.extend(sampling::classes());
        list.extend(custom_sampling::classes());
        list.extend(image::classes());
        list.extend(loaders::classes(imitate));
        list.extend(audio::classes());
        list.extend(video::classes(imitate));
        list.extend(probes::classes());
        list.extend(outputs::classes());
        list.extend(packs::classes());
        list.retain(|class: &Class| without.iter().all(|name| name != class.name));
        let by_name = list
            .iter()
            .enumerate()
            .map(|(index, class)| (class.name, index))
            .collect();
        Self { list, by_name }
    }

    /// One class.
    pub fn get(&self, name: &str) -> Option<&Class> {
        self.list.get(*self.by_name.get(name)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.list.iter()
    }
}
