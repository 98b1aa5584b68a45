//! The configuration as people may see it: every variable with its value, secrets as `***`; and the
//! secrets themselves, for whoever takes them out of texts.

use serde::Serialize;

use super::variables::{self, VARIABLES, Variable};
use super::{Env, Secret, public_text, public_url};

/// What stands for a secret.
const STARS: &str = "***";
/// A shorter part of a variable opens nothing, and is a word of many texts.
const SHORTEST_SECRET: usize = 3;

/// One variable, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownVariable {
    /// Its name.
    pub name: String,
    /// What holds: as it is set, or the default.
    pub value: String,
    /// What holds when it is not set.
    pub default: &'static str,
    /// Where the value comes from.
    pub origin: Origin,
    /// What it does.
    pub description: &'static str,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// The environment.
    Environment,
}

/// Every variable there is, in the order in which they are documented. Of a family of names each
/// member that is set, else the family.
pub fn variables(env: &dyn Env) -> Vec<ShownVariable> {
    let all = VARIABLES.iter().flat_map(|(_, group)| *group);
    all.flat_map(|variable| match variable.name.strip_suffix('*') {
        Some(family) => members(env, variable, family),
        None => vec![one(env, variable)],
    })
    .collect()
}

fn one(env: &dyn Env, variable: &Variable) -> ShownVariable {
    let set = env.get(variable.name);
    // Of all variables only this one means something when it is empty.
    let set = set.filter(|value| !value.trim().is_empty() || variable.name == "CMD");
    let row = |value: String, origin| ShownVariable {
        name: variable.name.to_owned(),
        value,
        default: variable.default,
        origin,
        description: variable.about,
    };
    match set {
        Some(value) => row(public_value_of(variable, value.trim()), Origin::Environment),
        None => row(variable.default.to_owned(), Origin::Default),
    }
}

fn members(env: &dyn Env, variable: &Variable, family: &str) -> Vec<ShownVariable> {
    let row = |name: String, value, origin| ShownVariable {
        name,
        value,
        default: variable.default,
        origin,
        description: variable.about,
    };
    let mut members: Vec<ShownVariable> = env
        .all()
        .into_iter()
        .filter(|(name, _)| name.starts_with(family))
        .map(|(name, value)| {
            let value = public_value_of(variable, value.trim());
            row(name, value, Origin::Environment)
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if members.is_empty() {
        members.push(row(
            variable.name.to_owned(),
            String::new(),
            Origin::Default,
        ));
    }
    members
}

/// The value of a variable as it may be shown.
pub fn public_value_of(variable: &Variable, value: &str) -> String {
    // Even a variable that is no secret may hold a URL with a password in it.
    match variable.name {
        _ if variable.secret => STARS.to_owned(),
        // Also when it is mistyped, and is no URL.
        name if name.ends_with("_URL") || name.ends_with("_ENDPOINT") => public_url(value),
        _ => public_text(value),
    }
}

/// The texts in the environment that open something: the values of secret variables, their parts
/// where they are lists, and the passwords in URLs. Longest first.
pub fn secrets(env: &dyn Env) -> Vec<Secret> {
    let mut found: Vec<String> = Vec::new();
    for (name, value) in env.all() {
        if variables::is_hidden(&name) {
            add_parts(&mut found, value.trim());
        } else if value.contains("://") {
            add_password(&mut found, value.trim());
        }
    }
    found.retain(|text| text.chars().count() >= SHORTEST_SECRET);
    found.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    found.dedup();
    found.into_iter().map(Secret::new).collect()
}

fn add_parts(found: &mut Vec<String>, value: &str) {
    if url::Url::parse(value).is_ok_and(|url| url.has_host()) {
        add_password(found, value);
        return;
    }
    // The manifest and defaults are documents: their words are no secrets, but what opens something
    // in them is.
    if value.starts_with(['{', '[']) {
        if let Ok(document) = serde_json::from_str(value) {
            add_members(found, &document, false);
        }
        return;
    }
    found.push(value.to_owned());
    for part in value.split([',', ';', ' ', '\n', '\t']) {
        // `name=value`, as in connection strings and lists of headers.
        match part.trim().split_once('=') {
            Some((name, of_name)) if !name.is_empty() && is_telling(name) => {
                found.push(of_name.to_owned());
            }
            Some((name, _)) if !name.is_empty() && value.contains(';') => {}
            _ => found.push(part.trim().to_owned()),
        }
    }
}

/// What stands behind such a name in a list of pairs opens something.
fn is_telling(name: &str) -> bool {
    const PUBLIC: [&str; 4] = [
        "DefaultEndpointsProtocol",
        "AccountName",
        "EndpointSuffix",
        "BlobEndpoint",
    ];
    !PUBLIC.contains(&name)
}

fn add_members(found: &mut Vec<String>, value: &serde_json::Value, opens: bool) {
    use serde_json::Value;
    const OPENING: [&str; 8] = [
        "token",
        "password",
        "secret",
        "header_value",
        "query_value",
        "secret_access_key",
        "session_token",
        "access_key_id",
    ];
    match value {
        Value::String(text) if opens => found.push(text.clone()),
        Value::String(text) if text.contains("://") => add_password(found, text),
        Value::Array(items) => items
            .iter()
            .for_each(|item| add_members(found, item, opens)),
        Value::Object(members) => {
            for (name, member) in members {
                add_members(found, member, OPENING.contains(&name.as_str()));
            }
        }
        _ => {}
    }
}

/// The password of each URL in a text, as it is written and as it is meant.
fn add_password(found: &mut Vec<String>, text: &str) {
    for word in text.split(|c: char| c.is_whitespace() || c == ',') {
        let Some(url) = word
            .find("://")
            .and_then(|_| url::Url::parse(word).ok())
            .filter(url::Url::has_host)
        else {
            continue;
        };
        let Some(password) = url.password() else {
            continue;
        };
        let decoded = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
        found.push(decoded.into_owned());
        found.push(password.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_variable_is_listed_and_secrets_are_stars() {
        let env = env(&[
            ("PORT", " 4000 "),
            ("API_KEYS", "marked"),
            (
                "SYSTEM_WEBHOOK_URL",
                "https://u:marked@h.example/x?sig=marked",
            ),
            ("SYSTEM_META_b", "2"),
            ("SYSTEM_META_a", "1"),
            ("CMD", ""),
            ("HOST", " "),
        ]);
        let listed = variables(&env);
        let row = |name: &str| {
            let row = listed.iter().find(|row| row.name == name).unwrap();
            (row.value.as_str(), row.default, row.origin)
        };
        assert_eq!(row("PORT"), ("4000", "3000", Origin::Environment));
        assert_eq!(row("HOST"), ("::", "::", Origin::Default));
        assert_eq!(row("CMD"), ("", "init.sh", Origin::Environment));
        assert_eq!(row("API_KEYS"), ("***", "", Origin::Environment));
        assert_eq!(row("HF_TOKEN"), ("", "", Origin::Default));
        assert_eq!(row("SYSTEM_WEBHOOK_URL").0, "https://h.example/x");
        assert_eq!(row("SYSTEM_META_a").0, "1");
        assert_eq!(row("SALAD_*"), ("", "", Origin::Default));
        assert!(!serde_json::to_string(&listed).unwrap().contains("marked"));
    }

    #[test]
    fn secrets_are_found_in_lists_urls_and_pairs() {
        let env = env(&[
            ("API_KEYS", "first-key, second-key,x"),
            ("AMQP_URL", "amqp://u:p%40ss@broker/v"),
            ("WEBHOOK_SECRET", "whsec_one whsec_two"),
            (
                "AZURE_STORAGE_CONNECTION_STRING",
                "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;\
                 EndpointSuffix=core",
            ),
            (
                "V2_DEFAULTS",
                r#"{"credentials": [{"auth": {"type": "bearer", "token": "t0ken"}}]}"#,
            ),
            ("SYSTEM_WEBHOOK_URL", "https://u:h0ok@h.example/"),
            ("PORT", "3000"),
        ]);
        let found = secrets(&env);
        let found: Vec<&str> = found.iter().map(Secret::expose).collect();
        for expected in [
            "first-key",
            "second-key",
            "p@ss",
            "whsec_two",
            "a2V5",
            "t0ken",
            "h0ok",
        ] {
            assert!(
                found.contains(&expected),
                "{expected} is missing: {found:?}"
            );
        }
        for odd in ["x", "3000", "https", "acc", "bearer", "core"] {
            assert!(!found.contains(&odd), "{odd} is none");
        }
    }
}
