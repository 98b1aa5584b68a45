//! Reads the environment variable by variable and collects every problem instead of stopping at the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Secret, variables};

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

/// Every problem found in the configuration; printed together, then the process exits with 2.
#[derive(Debug)]
pub struct ConfigError(pub Vec<String>);

impl Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.0.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        writeln!(f, "configuration: {} {plural}:", self.0.len())?;
        for problem in &self.0 {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads variables from an [`Env`], noting problems on the way. Unset and empty both mean the default.
pub struct Reader<'a> {
    env: &'a dyn Env,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader over `env` with no problems yet.
    pub fn new(env: &'a dyn Env) -> Self {
        Self {
            env,
            problems: Vec::new(),
        }
    }

    /// Every variable of the environment that is no secret of this server's.
    pub fn environment_without_secrets(&self) -> BTreeMap<String, String> {
        let all = self.env.all().into_iter();
        all.filter(|(name, _)| !variables::is_secret(name))
            .collect()
    }

    /// The problems found so far.
    pub fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// Notes a problem that concerns more than the form of one value.
    pub fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// All variables, for families of names.
    pub fn all(&self) -> Vec<(String, String)> {
        self.env.all()
    }

    /// A text, surrounding white space removed.
    pub fn text(&self, name: &str) -> Option<String> {
        self.env
            .get(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// `true` where the variable is set to an empty text, which for `CMD` is not the same as unset.
    pub fn set_but_empty(&self, name: &str) -> bool {
        self.env
            .get(name)
            .is_some_and(|value| value.trim().is_empty())
    }

    /// A text with a default.
    pub fn text_or(&self, name: &str, default: &str) -> String {
        self.text(name).unwrap_or_else(|| default.to_owned())
    }

    /// A secret.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    /// A path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A comma-separated list without empty members.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.text(name)
            .map(|value| {
                value
                    .split(',')
                    .map(|part| part.trim().to_owned())
                    .filter(|part| !part.is_empty())
                    .collect()
            })
            .unwrap_or_default()
    }

    /// true/false/1/0/yes/no in any case.
    pub fn bool_or(&mut self, name: &str, default: bool) -> bool {
        self.bool(name).unwrap_or(default)
    }

    /// [`Reader::bool_or`] without a default.
    pub fn bool(&mut self, name: &str) -> Option<bool> {
        let value = self.text(name)?;
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => {
                self.problem(format!(
                    "{name}=\"{value}\" is not a boolean: use true, false, 1, 0, yes or no"
                ));
                None
            }
        }
    }

    /// A number within `min..=max`; `what` names the unit for the error text ("seconds", "a TCP port").
    pub fn number<T>(&mut self, name: &str, default: T, min: T, max: T, what: &str) -> T
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(value) = self.text(name) else {
            return default;
        };
        match value.parse::<T>() {
            Ok(number) if number >= min && number <= max => number,
            _ => {
                self.problem(format!(
                    "{name}=\"{value}\" is not valid: use a number from {min} to {max} ({what})"
                ));
                default
            }
        }
    }

    /// A duration given in seconds, fractions allowed.
    pub fn seconds(&mut self, name: &str, default: f64, min: f64) -> Duration {
        Duration::from_secs_f64(self.number(name, default, min, 31_536_000.0, "seconds"))
    }

    /// A URL with one of the given schemes. The value may hold a password, so error texts never show it.
    pub fn url(&mut self, name: &str, schemes: &[&str]) -> Option<url::Url> {
        let value = self.text(name)?;
        match url::Url::parse(&value) {
            Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Some(url),
            _ => {
                let allowed = schemes.join(":// or ");
                self.problem(format!(
                    "{name} is not a usable URL: it must begin with {allowed}:// and name a host"
                ));
                None
            }
        }
    }

    /// One of a few words, compared without regard to case.
    pub fn one_of(&mut self, name: &str, default: &str, words: &[&str]) -> String {
        let value = self.text_or(name, default).to_ascii_lowercase();
        if words.contains(&value.as_str()) {
            return value;
        }
        self.problem(format!(
            "{name}=\"{value}\" is not known: use one of {}",
            words.join(", ")
        ));
        default.to_owned()
    }
}
