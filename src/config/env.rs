//! Where variables come from.

use std::collections::BTreeMap;

/// Where variables come from: the process environment in `main`, a map in tests.
pub trait Env {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<String>;
    /// All variables, for the families whose names are not known beforehand (`SYSTEM_META_*`).
    fn all(&self) -> Vec<(String, String)>;
}

/// The environment of this process. Values that are not UTF-8 are read lossily.
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn all(&self) -> Vec<(String, String)> {
        std::env::vars_os()
            .map(|(n, v)| {
                (
                    n.to_string_lossy().into_owned(),
                    v.to_string_lossy().into_owned(),
                )
            })
            .collect()
    }
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn all(&self) -> Vec<(String, String)> {
        self.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}
