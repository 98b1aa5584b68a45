//! What of our environment our children do not get (attack.md, A15). ComfyUI runs custom nodes of
//! strangers, and tools run scripts of packages: none of them needs the secrets that only this
//! server uses.

use std::process::Command;

/// What only this server needs. A `*` at the end stands for the rest of a name.
const OWN: &[&str] = &[
    "API_KEYS",
    "COMFYUI_API_KEY",
    "WEBHOOK_SECRET",
    "AMQP_URL",
    "AMQP_USER",
    "AMQP_PASS",
    "HTTP_AUTH_HEADER_VALUE",
    "SYSTEM_WEBHOOK_URL",
    "AZURE_STORAGE_*",
];
/// Headers of an OpenTelemetry exporter hold its token.
const OTLP: (&str, &str) = ("OTEL_EXPORTER_OTLP_", "HEADERS");
/// What custom nodes are known to use, and tools do not need.
const NOT_FOR_TOOLS: &[&str] = &[
    "AWS_*",
    "AZURE_CLIENT_SECRET",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
];
/// Names that are passed on all the same.
const PASS: &str = "COMFYUI_PASS_ENV";

/// Takes out of a command's environment what ComfyUI does not get.
pub fn withhold_from_comfyui(command: &mut Command) {
    withhold(command, is_own);
}

/// Takes out of a command's environment what `git`, `ffmpeg`, `pip` and the like do not get.
pub fn withhold_from_tool(command: &mut Command) {
    withhold(command, |name| {
        is_own(name) || NOT_FOR_TOOLS.iter().any(|pattern| matches(pattern, name))
    });
}

fn withhold(command: &mut Command, secret: impl Fn(&str) -> bool) {
    let passed = std::env::var(PASS).unwrap_or_default();
    let passed = |name: &str| {
        passed
            .split(',')
            .any(|pattern| matches(pattern.trim(), name))
    };
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in ours.filter(|name| secret(name) && !passed(name)) {
        command.env_remove(name);
    }
}

/// Whether only this server needs the variable.
pub(super) fn is_own(name: &str) -> bool {
    OWN.iter().any(|pattern| matches(pattern, name))
        || name
            .strip_prefix(OTLP.0)
            .is_some_and(|rest| rest.ends_with(OTLP.1))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_servers_own_is_kept_back() {
        for own in [
            "API_KEYS",
            "AMQP_PASS",
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_CONNECTION_STRING",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        ] {
            assert!(is_own(own), "{own}");
        }
        for passed in [
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "SALAD_MACHINE_ID",
            "PATH",
            "AMQP_HOST",
        ] {
            assert!(!is_own(passed), "{passed}");
        }
        assert!(matches("AWS_*", "AWS_REGION") && !matches("AWS_", "AWS_REGION"));
    }
}
