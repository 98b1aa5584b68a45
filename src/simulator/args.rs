//! The command line: ComfyUI's own flags that matter to a wrapper, and what to imitate and to
//! break.

use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};

use super::faults::Faults;

/// Which ComfyUI to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Imitate {
    /// The release of October 2025, whose behaviour was observed.
    #[value(name = "0.3.64")]
    V0_3_64,
    /// The line of about 0.38, October 2026: jobs API, UUID rule, new error types, long-lived
    /// cache.
    #[value(name = "current")]
    Current,
}

/// What `simulate-comfyui` accepts. Flags of ComfyUI that are not listed are ignored.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Address to bind (without a value: every address).
    #[arg(long, value_name = "IP", num_args = 0..=1, default_missing_value = "0.0.0.0")]
    pub listen: Option<String>,
    /// Port to bind, 0 for a free one [default: 8188].
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Directory that holds models, input, output and temp [default: the current one].
    #[arg(long, value_name = "DIR")]
    pub base_directory: Option<PathBuf>,
    /// Input directory, instead of the base directory's.
    #[arg(long, value_name = "DIR")]
    pub input_directory: Option<PathBuf>,
    /// Output directory, instead of the base directory's.
    #[arg(long, value_name = "DIR")]
    pub output_directory: Option<PathBuf>,
    /// Directory in which `temp` is made.
    #[arg(long, value_name = "DIR")]
    pub temp_directory: Option<PathBuf>,
    /// User directory; accepted and unused.
    #[arg(long, value_name = "DIR")]
    pub user_directory: Option<PathBuf>,
    /// Directory of the model folders, instead of the base directory's.
    #[arg(long, value_name = "DIR")]
    pub models_directory: Option<PathBuf>,
    /// YAML files with further model directories.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub extra_model_paths_config: Vec<PathBuf>,
    /// Preview pictures while sampling: none, auto, latent2rgb or taesd [default: none].
    #[arg(long, value_name = "METHOD")]
    pub preview_method: Option<String>,
    /// Longer side of a preview in pixels [default: 512].
    #[arg(long, value_name = "PIXELS")]
    pub preview_size: Option<u32>,
    /// Largest request body in megabytes [default: 100].
    #[arg(long, value_name = "MB")]
    pub max_upload_size: Option<f64>,
    /// Write no prompt into files.
    #[arg(long)]
    pub disable_metadata: bool,
    /// Keep what the last prompt used only.
    #[arg(long)]
    pub cache_classic: bool,
    /// Keep the results of this many nodes beyond the last prompt.
    #[arg(long, value_name = "N")]
    pub cache_lru: Option<usize>,
    /// Keep nothing between prompts.
    #[arg(long)]
    pub cache_none: bool,
    /// Answer cross-origin requests.
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, default_missing_value = "*")]
    pub enable_cors_header: Option<String>,
    /// Log to standard output instead of standard error.
    #[arg(long)]
    pub log_stdout: bool,

    /// Which ComfyUI to imitate [default: current].
    #[arg(long, value_name = "VERSION")]
    pub imitate: Option<Imitate>,
    /// Faults to start with: a JSON object as `POST /simulator/faults` takes it.
    #[arg(long, value_name = "JSON")]
    pub faults: Option<String>,
    /// Milliseconds that each sampling step takes.
    #[arg(long, value_name = "MS")]
    pub step_ms: Option<u64>,
    /// Milliseconds that each node takes.
    #[arg(long, value_name = "MS")]
    pub node_ms: Option<u64>,
    /// Seconds to wait before binding the port.
    #[arg(long, value_name = "SECONDS")]
    pub slow_start: Option<f64>,
    /// Class whose run raises; repeatable.
    #[arg(long, value_name = "CLASS")]
    pub fail_class: Vec<String>,
    /// Class that it does not have; repeatable.
    #[arg(long, value_name = "CLASS")]
    pub without_class: Vec<String>,
    /// Class whose run ends the process with exit code 1; repeatable.
    #[arg(long, value_name = "CLASS")]
    pub crash_class: Vec<String>,

    /// Whatever else ComfyUI takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub other: Vec<String>,
}

impl Args {
    /// The words of the command line that say where things are, as `/system_stats` shows them.
    pub fn argv(&self) -> Vec<String> {
        let mut words = vec!["main.py".to_owned()];
        for (flag, value) in [
            ("--base-directory", &self.base_directory),
            ("--input-directory", &self.input_directory),
            ("--output-directory", &self.output_directory),
            ("--temp-directory", &self.temp_directory),
        ] {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value.display().to_string()]);
            }
        }
        words
    }

    /// The same arguments with those behind an unknown flag read too, and the unknown ones dropped.
    pub fn settled(mut self) -> Result<Self, String> {
        while !self.other.is_empty() {
            let rest: Vec<String> = self
                .other
                .drain(..)
                .skip(1)
                .skip_while(|word| !word.starts_with("--"))
                .collect();
            if rest.is_empty() {
                break;
            }
            let (files, fail, crash) = (
                self.extra_model_paths_config.clone(),
                self.fail_class.clone(),
                self.crash_class.clone(),
            );
            let without = self.without_class.clone();
            let matches = Self::augment_args(Command::new("simulate-comfyui").no_binary_name(true))
                .try_get_matches_from(rest)
                .map_err(|e| e.to_string())?;
            let mut later = Self::default();
            later
                .update_from_arg_matches(&matches)
                .map_err(|e| e.to_string())?;
            self.update_from_arg_matches(&matches)
                .map_err(|e| e.to_string())?;
            self.other = later.other;
            self.extra_model_paths_config = [files, later.extra_model_paths_config].concat();
            self.fail_class = [fail, later.fail_class].concat();
            self.crash_class = [crash, later.crash_class].concat();
            self.without_class = [without, later.without_class].concat();
        }
        Ok(self)
    }

    /// Arguments from words, as a command line would give them.
    pub fn from_words<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let matches = Self::augment_args(Command::new("simulate-comfyui").no_binary_name(true))
            .try_get_matches_from(words)
            .map_err(|e| e.to_string())?;
        Self::from_arg_matches(&matches)
            .map_err(|e| e.to_string())?
            .settled()
    }

    /// The faults asked for by flags.
    pub fn initial_faults(&self) -> Result<Faults, String> {
        let mut faults: Faults = match &self.faults {
            Some(text) => serde_json::from_str(text)
                .map_err(|e| format!("--faults is not a JSON object of known faults: {e}"))?,
            None => Faults::default(),
        };
        faults.step_ms = self.step_ms.unwrap_or(faults.step_ms);
        faults.node_ms = self.node_ms.unwrap_or(faults.node_ms);
        faults.slow_start_s = self.slow_start.unwrap_or(faults.slow_start_s);
        faults.fail_class.extend(
            self.fail_class
                .iter()
                .map(|class| (class.clone(), "The simulator was told to fail".to_owned())),
        );
        faults
            .crash_class
            .extend(self.crash_class.iter().map(|class| (class.clone(), 1)));
        Ok(faults)
    }

    /// The imitated version.
    pub fn imitated(&self) -> Imitate {
        self.imitate.unwrap_or(Imitate::Current)
    }

    /// Largest request body in bytes.
    pub fn body_limit(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size in megabytes given by the person who starts it"
        )]
        let bytes = (self.max_upload_size.unwrap_or(100.0) * 1024.0 * 1024.0) as usize;
        bytes
    }

    /// Whether sampling sends pictures.
    pub fn previews(&self) -> bool {
        self.preview_method
            .as_deref()
            .is_some_and(|method| method != "none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_tolerated_wherever_they_stand() {
        let args = Args::from_words([
            "--cpu",
            "--port",
            "81",
            "--fast",
            "fp16",
            "x",
            "--imitate",
            "0.3.64",
            "--fail-class",
            "A",
            "--what",
        ])
        .unwrap();
        assert_eq!((args.port, args.imitated()), (Some(81), Imitate::V0_3_64));
        assert_eq!(args.fail_class, ["A"]);
        assert!(args.other.is_empty());
        let args = Args::from_words(["--listen", "--port", "5"]).unwrap();
        assert_eq!(args.listen.as_deref(), Some("0.0.0.0"));
    }
}
