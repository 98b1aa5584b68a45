//! The declaration of the variables, and what is read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::super::variables::{Kind, VARIABLES};
use super::super::{Config, Env};
use super::config;

/// An environment that notes which names are asked for.
#[derive(Default)]
struct Recorder(RefCell<BTreeSet<String>>);

impl Env for Recorder {
    fn get(&self, name: &str) -> Option<String> {
        self.0.borrow_mut().insert(name.to_owned());
        None
    }
    fn all(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

#[test]
fn the_list_of_variables_and_the_code_agree() {
    let recorder = Recorder::default();
    let mut asked = {
        Config::from_env(&recorder).unwrap();
        recorder.0.into_inner()
    };
    // Read only next to others that are unset here, or not ours to document.
    // COMFYUI_PASS_ENV is read where a child's environment is made.
    for name in ["AMQP_USER", "AMQP_PASS", "AMQP_VHOST", "COMFYUI_PASS_ENV"] {
        asked.insert(name.to_owned());
    }
    asked.retain(|name| {
        !matches!(
            name.as_str(),
            "HOME"
                | "PATH"
                | "VIRTUAL_ENV"
                | "CONDA_DEFAULT_ENV"
                | "http_proxy"
                | "https_proxy"
                | "no_proxy"
                | "SYSTEM_META_host"
        ) && !name.starts_with("SALAD_")
    });
    let listed: BTreeSet<String> = VARIABLES
        .iter()
        .flat_map(|(_, group)| *group)
        .map(|v| v.name.to_owned())
        .filter(|name| !name.ends_with('*'))
        .collect();
    assert_eq!(asked, listed);
}

/// Where a default depends on something else it is said in words.
#[test]
fn defaults_are_of_their_own_type() {
    let in_words = [
        "ALWAYS_RESTART_COMFYUI",
        "AMQP_MAX_MESSAGE_MB",
        "AMQP_PREFETCH",
        "GATEWAY_URL",
        "S3_FORCE_PATH_STYLE",
    ];
    for variable in VARIABLES.iter().flat_map(|(_, group)| *group) {
        let default = variable.default;
        let fits = match variable.kind {
            Kind::Text | Kind::Path | Kind::List => true,
            Kind::Flag => matches!(default, "true" | "false"),
            Kind::Words(words) => words.contains(&default),
            Kind::Number(range) => default
                .parse::<f64>()
                .is_ok_and(|number| number >= range.min && number <= range.max),
            Kind::Port { min } => default.parse::<u16>().is_ok_and(|port| port >= min),
            Kind::Url(_) => default.is_empty() || url::Url::parse(default).is_ok(),
        };
        assert_eq!(
            fits,
            !in_words.contains(&variable.name),
            "{}",
            variable.name
        );
    }
}

#[test]
fn what_is_not_of_a_variables_type_is_a_problem_that_names_it() {
    for variable in VARIABLES.iter().flat_map(|(_, group)| *group) {
        let typed = !matches!(variable.kind, Kind::Text | Kind::Path | Kind::List);
        // The Node server took anything for a boolean.
        let lenient = variable.node && variable.kind == Kind::Flag;

        if !typed || lenient {
            continue;
        }
        let problems = config(&[
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            (variable.name, "~"),
        ]);
        let problems = problems.err().map(|error| error.0).unwrap_or_default();
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains(variable.name)),
            "{}: {problems:?}",
            variable.name
        );
    }
}
