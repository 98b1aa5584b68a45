//! What ComfyUI says of itself that matters for outputs: where temporary files are.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The temp directory.
#[derive(Debug, Default, Clone)]
pub struct OutputFacts {
    temp_dir: Option<PathBuf>,
}

impl OutputFacts {
    /// Takes in the answer of `/system_stats`; `home` is where a ComfyUI without further words
    /// keeps its files.
    pub fn read_stats(&mut self, stats: &Value, home: &Path) {
        let argv = stats.pointer("/system/argv").and_then(Value::as_array);
        let words: Vec<&str> = argv
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let value = |flag: &str| flag_value(&words, flag).map(|path| home.join(path));
        let parent = value("--temp-directory").or_else(|| value("--base-directory"));
        self.temp_dir = Some(parent.unwrap_or_else(|| home.to_path_buf()).join("temp"));
    }

    /// Where ComfyUI keeps its temporary files, on its machine.
    pub fn temp_dir(&self, home: &Path) -> PathBuf {
        self.temp_dir.clone().unwrap_or_else(|| home.join("temp"))
    }
}

/// The value of a flag, the last one if it is given several times: `--flag value` or
/// `--flag=value`.
fn flag_value<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    let mut found = None;
    for (index, word) in words.iter().enumerate() {
        if *word == flag {
            found = words.get(index + 1).copied();
        } else if let Some(value) = word
            .strip_prefix(flag)
            .and_then(|rest| rest.strip_prefix('='))
        {
            found = Some(value);
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// F21
    #[test]
    fn the_command_line_says_where_temporary_files_are() {
        let of = |argv: &[&str]| {
            let mut facts = OutputFacts::default();
            facts.read_stats(&json!({"system": {"argv": argv}}), Path::new("/home"));
            facts.temp_dir(Path::new("/other"))
        };
        for (argv, dir) in [
            (&["main.py"][..], "/home/temp"),
            (&["main.py", "--base-directory", "/base"], "/base/temp"),
            (
                &[
                    "main.py",
                    "--base-directory=/base",
                    "--temp-directory",
                    "/t",
                ],
                "/t/temp",
            ),
            (
                &["main.py", "--temp-directory=/a", "--temp-directory", "b"],
                "/home/b/temp",
            ),
            (&["main.py", "--temp-directory"], "/home/temp"),
        ] {
            assert_eq!(of(argv), Path::new(dir), "{argv:?}");
        }
        assert_eq!(
            OutputFacts::default().temp_dir(Path::new("/c")),
            Path::new("/c/temp")
        );
    }
}
