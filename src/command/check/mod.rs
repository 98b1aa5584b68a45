//! `comfyui-api check`: the effective configuration, the files it names and the manifest, without
//! starting anything.

pub mod files;

use std::io::{self, Write};

use crate::config::variables::{VARIABLES, Variable};
use crate::config::{Config, Env, ManifestConfig, Reader, public_text, public_value_of};
use crate::manifest::{CustomNode, Manifest};

/// Prints every variable with its effective value (secrets as `***`), the manifest, and every
/// problem of both. Returns the exit code: 0 when all is well, 1 when there are problems.
///
/// # Errors
/// When `out` cannot be written to.
pub async fn run(env: &dyn Env, out: &mut (dyn Write + Send)) -> io::Result<u8> {
    for (group, variables) in VARIABLES {
        writeln!(out, "{group}")?;
        for variable in *variables {
            print_variable(env, variable, out)?;
        }
        writeln!(out)?;
    }
    let (mut problems, warnings) = match Config::from_env(env) {
        Ok(config) => (files::problems(&config, env), config.warnings),
        Err(error) => (error.0, Vec::new()),
    };
    // The manifest is looked at even if the rest of the configuration is wrong.
    match Manifest::load(&ManifestConfig::from_reader(&mut Reader::new(env))).await {
        Ok(None) => writeln!(out, "Manifest\n  none")?,
        Ok(Some(manifest)) => print_manifest(&manifest, out)?,
        Err(error) => problems.push(error.to_string()),
    }
    writeln!(out)?;
    for warning in &warnings {
        writeln!(out, "Warning: {warning}")?;
    }
    if problems.is_empty() {
        writeln!(out, "No problems.")?;
        return Ok(0);
    }
    writeln!(
        out,
        "{} {}:",
        problems.len(),
        if problems.len() == 1 {
            "problem"
        } else {
            "problems"
        }
    )?;
    for problem in &problems {
        writeln!(out, "  - {problem}")?;
    }
    Ok(1)
}

fn print_variable(env: &dyn Env, variable: &Variable, out: &mut dyn Write) -> io::Result<()> {
    if let Some(family) = variable.name.strip_suffix('*') {
        let mut members: Vec<_> = env
            .all()
            .into_iter()
            .filter(|(name, _)| name.starts_with(family))
            .collect();
        members.sort();
        return members.iter().try_for_each(|(name, value)| {
            writeln!(out, "  {name} = {}", public_value_of(variable, value))
        });
    }
    match env
        .get(variable.name)
        .filter(|value| !value.trim().is_empty())
    {
        Some(value) => writeln!(
            out,
            "  {} = {}",
            variable.name,
            public_value_of(variable, value.trim())
        ),
        // Of all variables only this one means something when it is empty.
        None if variable.name == "CMD" && env.get("CMD").is_some() => writeln!(
            out,
            "  CMD = (empty: attach to a ComfyUI that runs already)"
        ),
        None if variable.default.is_empty() => writeln!(out, "  {} is not set", variable.name),
        None => writeln!(out, "  {} = {} (default)", variable.name, variable.default),
    }
}

fn print_manifest(manifest: &Manifest, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Manifest")?;
    let mut list = |name: &str, items: Vec<String>| {
        if items.is_empty() {
            return Ok(());
        }
        writeln!(out, "  {name}")?;
        items
            .iter()
            .try_for_each(|item| writeln!(out, "    - {item}"))
    };
    list("apt", manifest.apt.clone())?;
    list(
        "pip",
        manifest
            .pip
            .iter()
            .map(|package| public_text(package.expose()))
            .collect(),
    )?;
    let node = |node: &CustomNode| match node {
        CustomNode::Registry(name) => name.clone(),
        CustomNode::Git(source) => match &source.reference {
            Some(reference) => format!("{} at {}", source.public(), reference.name),
            None => source.public(),
        },
    };
    list(
        "custom_nodes",
        manifest.custom_nodes.iter().map(node).collect(),
    )?;
    for (name, models) in [
        ("models.before_start", &manifest.before_start),
        ("models.after_start", &manifest.after_start),
    ] {
        list(
            name,
            models
                .iter()
                .map(|model| {
                    format!(
                        "{} -> {}",
                        public_text(&model.url),
                        model.local_path.display()
                    )
                })
                .collect(),
        )?;
    }
    list("warnings", manifest.warnings.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    async fn check(pairs: &[(&str, &str)]) -> (u8, String) {
        let env: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut out = Vec::new();
        let code = run(&env, &mut out).await.unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn every_variable_is_shown_and_no_secret() {
        let manifest = r#"{"apt":["git"],"pip":["git+https://marked@h.example/x.git"],"custom_nodes":["https://u:marked@h.example/u/node@v1"],
            "models":{"before_start":[{"url":"https://h.example/m.bin?token=marked","local_path":"models/m.bin"}]}}"#;
        let (code, text) = check(&[
            ("PORT", "4000"),
            ("CMD", ""),
            ("AMQP_URL", "amqp://u:marked@broker"),
            ("HTTPS_PROXY", "http://u:marked@proxy:3128"),
            ("SYSTEM_META_region", "eu"),
            ("MANIFEST_JSON", manifest),
        ])
        .await;
        assert_eq!(code, 0, "{text}");
        for expected in [
            "PORT = 4000",
            "LOG_LEVEL = info (default)",
            "CMD = (empty",
            "AMQP_URL = ***",
            "SYSTEM_META_region = eu",
            "https://h.example/u/node at v1",
            "models/m.bin",
            "No problems.",
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
        assert!(!text.contains("marked"), "{text}");
    }

    #[tokio::test]
    async fn problems_of_configuration_and_manifest_come_together() {
        let (code, text) = check(&[
            ("PORT", "x"),
            ("LOG_LEVEL", "loud"),
            ("MANIFEST_JSON", r#"{"models":{"before_start":1},"apt":1}"#),
        ])
        .await;
        assert_eq!(code, 1);
        for expected in [
            "3 problems",
            "PORT=\"x\"",
            "LOG_LEVEL",
            "models.before_start must be a list",
            "apt must be a list",
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }

    /// F18: every file and folder that the start would read or write.
    #[tokio::test]
    async fn what_the_start_will_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            at(name)
        };
        let graph = r#"{"1": {"class_type": "X", "inputs": {}}}"#;
        let file = write("file", "text");
        let empty = write("empty.json", "{}");
        let broken = write("broken.json", "{");
        let bad = [
            ("WARMUP_PROMPT_FILE", at("nope.json")),
            ("WARMUP_PROMPT_FILE", dir.path().display().to_string()),
            ("WARMUP_PROMPT_FILE", empty),
            ("WARMUP_PROMPT_FILE", broken),
            ("AMQP_CA_FILE", at("nope.pem")),
            ("AMQP_TLS_CA_FILE", file.clone()),
            ("FFMPEG_PATH", at("nope")),
            ("FFMPEG_PATH", file.clone()),
            ("FFMPEG_PATH", "no-such-program".to_owned()),
            ("CACHE_DIR", format!("{file}/below")),
            ("WEBHOOK_SPOOL_DIR", file.clone()),
            ("WEBHOOK_SPOOL_DIR", "/proc/nonexistent/spool".to_owned()),
            ("STATE_DIR", format!("{file}/state")),
            ("COMFY_HOME", at("nope")),
            ("OUTPUT_DIR", file.clone()),
        ];
        let cache = at("cache");
        for (name, value) in &bad {
            let mut env = vec![(*name, value.as_str())];
            if *name != "CACHE_DIR" {
                env.push(("CACHE_DIR", &cache));
            }
            let (code, text) = check(&env).await;
            let named = text.lines().any(|line| {
                line.starts_with("  - ") && line.contains(name.trim_start_matches("AMQP_"))
            });
            assert!(code == 1 && named, "{name}={value}: {text}");
        }
        let bare = write("graph.json", graph);
        let body = write("body.json", &format!("\u{feff}{{\"prompt\": {graph}}}"));
        let workflow = write("workflow.json", r#"{"nodes": [], "links": []}"#);
        for warmup in [bare, body, workflow] {
            let good = [
                ("WARMUP_PROMPT_FILE", warmup.as_str()),
                ("FFMPEG_PATH", "/bin/sh"),
                ("CACHE_DIR", &at("deep/cache")),
                ("WEBHOOK_SPOOL_DIR", &at("deep/spool")),
            ];
            let (code, text) = check(&good).await;
            assert_eq!(code, 0, "{text}");
        }
        assert!(!dir.path().join("deep").exists() && !dir.path().join("cache").exists());
    }
}
