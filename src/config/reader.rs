//! Reads the environment variable by variable and collects every problem instead of stopping at the
//! first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Secret;
use super::env::Env;
use super::variables::{self, Kind, Range, Variable};

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

/// Reads variables from an [`Env`], noting problems on the way. Unset and empty both mean the
/// default.
pub struct Reader<'a> {
    env: &'a dyn Env,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader over `env` with no problems yet.
    pub fn new(env: &'a dyn Env) -> Self {
        Self {
            env,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Every variable of the environment that is no secret of this server's.
    pub fn environment_without_secrets(&self) -> BTreeMap<String, String> {
        let all = self.env.all().into_iter();
        all.filter(|(name, _)| !variables::is_secret(name))
            .collect()
    }

    /// The problems found so far, and the warnings.
    pub fn into_findings(self) -> (Vec<String>, Vec<String>) {
        (self.problems, self.warnings)
    }

    /// Notes what starts all the same, but probably not as it was meant.
    pub fn warning(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
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
    pub fn text(&self, variable: &Variable) -> Option<String> {
        self.foreign(variable.name)
    }

    /// The same of a variable that is not ours: the system, other tools or platforms set it.
    pub fn foreign(&self, name: &str) -> Option<String> {
        self.inherited(name).filter(|value| !value.is_empty())
    }

    /// The same where an empty text means something.
    pub fn inherited(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|value| value.trim().to_owned())
    }

    /// `true` where the variable is set to an empty text, which for `CMD` is not the same as unset.
    pub fn set_but_empty(&self, variable: &Variable) -> bool {
        self.inherited(variable.name)
            .is_some_and(|value| value.is_empty())
    }

    /// A text, or the default.
    pub fn text_or(&self, variable: &Variable) -> String {
        self.text(variable)
            .unwrap_or_else(|| variable.default.to_owned())
    }

    /// A secret.
    pub fn secret(&self, variable: &Variable) -> Option<Secret> {
        self.text(variable).map(Secret::new)
    }

    /// A secret that goes into a header or a signature: what cannot be sent is a problem now, not
    /// at the first request.
    pub fn sent(&mut self, variable: &Variable) -> Option<Secret> {
        self.sent_text(variable).map(Secret::new)
    }

    /// [`Reader::sent`] for what is no secret.
    pub fn sent_text(&mut self, variable: &Variable) -> Option<String> {
        let value = self.text(variable)?;
        let unsendable = |char: char| !char.is_ascii() || char.is_ascii_control();
        match value.chars().position(unsendable) {
            None => Some(value),
            Some(at) => {
                self.problem(format!(
                    "{} has a character that cannot be sent: its character {}",
                    variable.name,
                    at + 1
                ));
                None
            }
        }
    }

    /// A path.
    pub fn path(&self, variable: &Variable) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    /// A path, or the default.
    pub fn path_or(&self, variable: &Variable) -> PathBuf {
        self.text_or(variable).into()
    }

    /// A comma-separated list without empty members. One that is set but has no member is a
    /// problem: made from an empty secret it would otherwise open what it is to guard (faults.md,
    /// F05).
    pub fn list(&mut self, variable: &Variable) -> Vec<String> {
        let Some(value) = self.text(variable) else {
            return Vec::new();
        };
        let members: Vec<String> = value
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        if members.is_empty() {
            self.problem(format!(
                "{} is set but its list holds nothing: name at least one member, or unset it",
                variable.name
            ));
        }
        members
    }

    /// true/false/1/0/yes/no in any case, or the default.
    pub fn flag(&mut self, variable: &Variable) -> bool {
        self.bool(variable).unwrap_or(variable.default == "true")
    }

    /// [`Reader::flag`] without the default.
    pub fn bool(&mut self, variable: &Variable) -> Option<bool> {
        let value = self.text(variable)?;
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            // The Node server compares with `true`.
            _ if variable.node => {
                self.understood(variable, &value, "false");
                Some(false)
            }
            _ => {
                self.problem(format!(
                    "{}=\"{}\" is not a boolean: use true, false, 1, 0, yes or no",
                    variable.name,
                    shown(&value)
                ));
                None
            }
        }
    }

    /// Says how a value was read that only the Node server would have taken (drop-in.md, D14).
    fn understood(&mut self, variable: &Variable, value: &str, as_what: &str) {
        let name = variable.name;
        self.warning(format!(
            "{name}=\"{}\" is understood as {as_what}, as the Node server did: write \
             {name}={as_what}",
            shown(value)
        ));
    }

    /// A number within its range, or the default.
    pub fn number<T>(&mut self, variable: &Variable) -> T
    where
        T: FromStr + PartialOrd + Display + Copy + Default,
    {
        let default = variable.default.parse().unwrap_or_default();
        self.number_or(variable, default)
    }

    /// A number within its range, or a default that depends on something else.
    pub fn number_or<T>(&mut self, variable: &Variable, default: T) -> T
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let name = variable.name;
        let Range { min, max, unit } = match variable.kind {
            Kind::Number(range) => range,
            Kind::Port { min } => Range {
                min: f64::from(min),
                max: f64::from(u16::MAX),
                unit: "a TCP port",
            },
            _ => Range {
                min: f64::MIN,
                max: f64::MAX,
                unit: "",
            },
        };
        let (Ok(min), Ok(max)) = (min.to_string().parse::<T>(), max.to_string().parse::<T>())
        else {
            return default;
        };
        let Some(value) = self.text(variable) else {
            return default;
        };
        if let Some(number) = value
            .parse::<T>()
            .ok()
            .filter(|number| *number >= min && *number <= max)
        {
            return number;
        }
        if variable.node
            && let Some(number) = leading_number(&value, min, max)
        {
            self.understood(variable, &value, &number.to_string());
            return number;
        }
        self.problem(format!(
            "{name}=\"{}\" is not valid: use a number from {min} to {max} ({unit})",
            shown(&value)
        ));
        default
    }

    /// A TCP port. Kubernetes sets `<SERVICE>_PORT=tcp://address:port` for every Service of a
    /// namespace, which nobody who runs this server wrote (faults.md, F15): such a link is no
    /// mistake. Its port counts only with `link_counts`.
    pub fn port(&mut self, variable: &Variable, link_counts: bool) -> u16 {
        let name = variable.name;
        let Some(linked) = self.text(variable).as_deref().and_then(service_link) else {
            return self.number(variable);
        };
        let default = variable.default.parse().unwrap_or_default();
        let (port, fate) = if link_counts {
            (linked, "its port is used")
        } else {
            (default, "it is ignored")
        };
        self.warning(format!(
            "{name} holds a Kubernetes service link (tcp://...), {fate}: rename that Service, or \
             set enableServiceLinks: false for the pod"
        ));
        port
    }

    /// A duration given in seconds, fractions allowed.
    pub fn seconds(&mut self, variable: &Variable) -> Duration {
        Duration::from_secs_f64(self.number(variable))
    }

    /// A duration given in milliseconds.
    pub fn milliseconds(&mut self, variable: &Variable) -> Duration {
        Duration::from_millis(self.number(variable))
    }

    /// A URL with one of its schemes. The value may hold a password, so error texts never show it.
    pub fn url(&mut self, variable: &Variable) -> Option<url::Url> {
        let name = variable.name;
        let Kind::Url(schemes) = variable.kind else {
            return None;
        };
        let value = self.text(variable)?;
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

    /// One of its words, compared without regard to case, or the default.
    pub fn one_of(&mut self, variable: &Variable) -> String {
        let Kind::Words(words) = variable.kind else {
            return variable.default.to_owned();
        };
        let value = self.text_or(variable).to_ascii_lowercase();
        if words.contains(&value.as_str()) {
            return value;
        }
        self.problem(format!(
            "{}=\"{}\" is not known: use one of {}",
            variable.name,
            shown(&value),
            words.join(", ")
        ));
        variable.default.to_owned()
    }
}

/// At most so much of a value stands in a sentence.
fn shown(value: &str) -> String {
    const MOST: usize = 200;
    if value.chars().count() <= MOST {
        return value.to_owned();
    }
    value.chars().take(MOST).chain(['\u{2026}']).collect()
}

/// `parseInt` or `parseFloat` of JavaScript, whichever the type asks for: the number that the text
/// begins with. Below a range that begins with 0 it means 0, above a range its end; anything else
/// that is out of range has no sense.
fn leading_number<T>(value: &str, min: T, max: T) -> Option<T>
where
    T: FromStr + PartialOrd + Display + Copy,
{
    const LONGEST: usize = 40;
    let may_be_zero = min.to_string() == "0";
    let of_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    let end = value.find(|c| !of_number(c)).unwrap_or(value.len());
    let unsigned = value.trim_start_matches(['+', '-']);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let number = (1..=end.min(LONGEST))
        .rev()
        .find_map(|length| value[..length].parse::<T>().ok());
    match number {
        Some(number) if number >= min && number <= max => Some(number),
        Some(number) if number > max => Some(max),
        Some(_) if may_be_zero => Some(min),
        // A type without a sign.
        None if may_be_zero && value.starts_with('-') => Some(min),
        _ => None,
    }
}

/// The port of `tcp://address:port`.
fn service_link(value: &str) -> Option<u16> {
    let (address, port) = value.strip_prefix("tcp://")?.rsplit_once(':')?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().ok()?;
    port.parse().ok().filter(|port| *port > 0)
}
