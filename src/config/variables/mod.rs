//! Every variable, declared once: name, type, default, unit and meaning. Parsing
//! ([`super::Reader`]), docs/reference/variables.md, `comfyui-api check` and `GET /config` all
//! follow from the declaration.
//!
//! A new variable is a line in the file of its group, and its use: the field of a section that
//! reads it. A declared variable that nobody reads, and the reverse, fail a test.

use super::child_env;

/// The names of system events (events.md), in the order in which they are listed to users.
pub const EVENT_NAMES: &[&str] = &[
    "status",
    "progress",
    "progress_state",
    "executing",
    "execution_start",
    "execution_cached",
    "executed",
    "execution_success",
    "execution_interrupted",
    "execution_error",
    "logs",
    "feature_flags",
    "binary_preview",
    "file_downloaded",
    "file_uploaded",
    "file_deleted",
];

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name; a `*` at the end stands for a family of names.
    pub name: &'static str,
    /// What holds when it is unset or empty. Where the value depends on others, words that say
    /// how.
    pub default: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value must not be shown.
    pub secret: bool,
    /// The Node server has it too: values are read as JavaScript would have read them (drop-in.md,
    /// D14).
    pub node: bool,
}

/// What values a variable takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A file or directory.
    Path,
    /// Members with commas between them.
    List,
    /// true, false, 1, 0, yes or no.
    Flag,
    /// One of these words, in any case.
    Words(&'static [&'static str]),
    /// A number.
    Number(Range),
    /// A TCP port.
    Port {
        /// 0 where the system may choose.
        min: u16,
    },
    /// A URL with one of these schemes.
    Url(&'static [&'static str]),
}

/// The numbers that a variable takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// What is counted, for error texts.
    pub unit: &'static str,
}

impl Variable {
    const fn of(kind: Kind) -> Self {
        Self {
            name: "",
            default: "",
            about: "",
            kind,
            secret: false,
            node: false,
        }
    }

    const fn hidden(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    const fn of_node(self) -> Self {
        Self { node: true, ..self }
    }
}

const TEXT: Variable = Variable::of(Kind::Text);
const PATH: Variable = Variable::of(Kind::Path);
const LIST: Variable = Variable::of(Kind::List);
const FLAG: Variable = Variable::of(Kind::Flag);
/// The schemes of the web.
const WEB: &[&str] = &["http", "https"];

const fn words(words: &'static [&'static str]) -> Variable {
    Variable::of(Kind::Words(words))
}

const fn number(min: f64, max: f64, unit: &'static str) -> Variable {
    Variable::of(Kind::Number(Range { min, max, unit }))
}

/// A year at most, fractions allowed.
const fn seconds(min: f64) -> Variable {
    number(min, 31_536_000.0, "seconds")
}

/// A day at most.
const fn milliseconds(min: f64) -> Variable {
    number(min, 86_400_000.0, "milliseconds")
}

/// A century at most, fractions allowed.
const fn hours() -> Variable {
    number(0.0001, 876_000.0, "hours")
}

const fn port(min: u16) -> Variable {
    Variable::of(Kind::Port { min })
}

const fn url(schemes: &'static [&'static str]) -> Variable {
    Variable::of(Kind::Url(schemes))
}

/// Declares a group of variables: `NAME = type, "default", "what it does";`, in the order in which
/// they are documented. A family of names is declared `as "NAME_*"`.
macro_rules! variables {
    (
        $group:literal $(
            $name:ident $(as $family:literal)? = $declared:expr,
            $default:literal,
            $about:literal;
        )*
    ) => {
        $(
            // Not the text itself: it is Markdown for a table, and says `<id>`.
            #[doc = concat!("`", stringify!($name), "`; its `about` says what it does.")]
            pub const $name: Variable = Variable {
                name: variables!(@name $name $($family)?),
                default: $default,
                about: $about,
                ..$declared
            };
        )*

        /// The group's name and its variables.
        pub(super) const GROUP: (&str, &[Variable]) = ($group, &[$($name),*]);
    };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:ident $family:literal) => { $family };
}

pub mod amqp;
pub mod comfy;
pub mod mcp;
pub mod otel;
pub mod prompts;
pub mod server;
pub mod storage;
pub mod v2;
pub mod webhooks;
pub mod workflows;

/// All variables, grouped as they are documented.
pub const VARIABLES: &[(&str, &[Variable])] = &[
    server::GROUP,
    comfy::GROUP,
    prompts::GROUP,
    v2::GROUP,
    mcp::GROUP,
    storage::GROUP,
    webhooks::GROUP,
    amqp::GROUP,
    otel::GROUP,
    workflows::GROUP,
];

/// Whether code that is not ours must not see this variable: secrets, and addresses that hold some.
pub fn is_secret(name: &str) -> bool {
    child_env::is_own(name) || is_hidden(name)
}

/// Whether the value of this variable is never shown.
pub(super) fn is_hidden(name: &str) -> bool {
    let mut all = VARIABLES.iter().flat_map(|(_, variables)| *variables);
    (name.starts_with("OTEL_") && name.ends_with("_HEADERS"))
        || all.any(|variable| variable.secret && variable.name.eq_ignore_ascii_case(name))
}
