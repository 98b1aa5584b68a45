//! One input of a node class.

use serde_json::Value;

use super::Choices;

/// The definition of an input.
#[derive(Debug, Default, Clone)]
pub struct InputDefinition {
    /// Its name.
    pub name: String,
    /// It must be given.
    pub required: bool,
    /// Its type; `COMBO` for a list of choices.
    pub kind: String,
    /// The choices of a combo.
    pub choices: Option<Choices>,
    /// The value when nobody gives one.
    pub default: Option<Value>,
    /// A text of several lines.
    pub multiline: bool,
    /// A text with `{a|b}`.
    pub dynamic_prompts: bool,
    /// A widget type that is a plain socket all the same.
    pub force_input: bool,
    /// Decides in place of the type which widget it is.
    pub widget_type: Option<String>,
    /// Whether a control widget follows.
    pub control: Control,
    /// Lowest number.
    pub min: Option<Value>,
    /// Highest number.
    pub max: Option<Value>,
    /// Distance of numbers.
    pub step: Option<Value>,
    /// How fractions are rounded.
    pub round: Round,
    /// What few inputs have.
    pub special: Option<Box<Special>>,
}

/// What few inputs have.
#[derive(Debug, Default, Clone)]
pub struct Special {
    /// A group that grows with its links.
    pub growing: Option<Growing>,
    /// A socket whose type follows others.
    pub match_type: Option<MatchType>,
    /// What each choice of a dynamic combo adds.
    pub options: Vec<DynamicOption>,
    /// Widgets that a choice brings with it (VideoHelperSuite).
    pub formats: Vec<(String, Vec<InputDefinition>)>,
    /// Files can be uploaded.
    pub upload: Upload,
    /// The media type of what can be uploaded.
    pub media_type: Option<&'static str>,
    /// The combo has a button that asks for its choices again.
    pub refresh_button: bool,
}

/// What `control_after_generate` says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    #[default]
    Absent,
    /// No control widget.
    Off,
    /// A control widget.
    On,
}

/// What `round` says.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub enum Round {
    /// To the decimals of the step.
    #[default]
    ByStep,
    /// Not at all.
    Never,
    /// To multiples of a number.
    To(f64),
}

/// Which kind of upload an input allows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// None that changes widgets.
    #[default]
    None,
    /// Pictures and videos.
    Media,
    /// Sounds.
    Audio,
}

/// `COMFY_AUTOGROW_V3`.
#[derive(Debug, Default, Clone)]
pub struct Growing {
    /// What is repeated.
    pub inputs: Vec<InputDefinition>,
    /// Names of the repetitions; when empty, `prefix` and a number.
    pub names: Vec<String>,
    /// In front of the number.
    pub prefix: String,
    /// As many are there at least.
    pub min: usize,
    /// As many are there at most.
    pub max: usize,
}

/// `COMFY_MATCHTYPE_V3`.
#[derive(Debug, Default, Clone)]
pub struct MatchType {
    /// Sockets of one group have one type.
    pub group: String,
    /// The types it may have.
    pub allowed: String,
}

/// One choice of `COMFY_DYNAMICCOMBO_V3`.
#[derive(Debug, Default, Clone)]
pub struct DynamicOption {
    /// The value.
    pub key: Value,
    /// The inputs it adds.
    pub inputs: Vec<InputDefinition>,
}

impl InputDefinition {
    /// The type that decides which widget it is.
    pub fn widget_kind(&self) -> &str {
        self.widget_type.as_deref().unwrap_or(&self.kind)
    }

    /// The growing group that it is.
    pub fn growing(&self) -> Option<&Growing> {
        self.special.as_deref()?.growing.as_ref()
    }

    /// The group of types that it belongs to.
    pub fn match_type(&self) -> Option<&MatchType> {
        self.special.as_deref()?.match_type.as_ref()
    }

    /// What the choices of a dynamic combo add.
    pub fn options(&self) -> &[DynamicOption] {
        self.special
            .as_deref()
            .map_or(&[], |special| &special.options)
    }

    /// The widgets that a choice brings with it.
    pub fn format(&self, value: &str) -> Option<&[InputDefinition]> {
        let formats = &self.special.as_deref()?.formats;
        formats
            .iter()
            .find(|(name, _)| name == value)
            .map(|(_, inputs)| inputs.as_slice())
    }

    /// Whether some choice brings widgets with it.
    pub fn has_formats(&self) -> bool {
        self.special
            .as_deref()
            .is_some_and(|special| !special.formats.is_empty())
    }

    /// Which kind of upload it allows.
    pub fn upload(&self) -> Upload {
        self.special
            .as_deref()
            .map_or(Upload::None, |special| special.upload)
    }

    /// The media type of the files that it takes; `*/*` for any.
    pub fn media_type(&self) -> Option<&'static str> {
        self.special.as_deref()?.media_type
    }

    /// Whether the combo has a button that asks for its choices again.
    pub fn refresh_button(&self) -> bool {
        self.special
            .as_deref()
            .is_some_and(|special| special.refresh_button)
    }

    /// The first choice of a combo.
    pub fn first_choice(&self) -> Option<Value> {
        if self.kind == "COMFY_DYNAMICCOMBO_V3" {
            return first_key(self.options());
        }
        self.choices.as_ref()?.first().cloned()
    }
}

/// JavaScript's order of keys: whole numbers first, ascending, then the others as they come.
fn first_key(options: &[DynamicOption]) -> Option<Value> {
    let number = |option: &DynamicOption| match &option.key {
        Value::String(text) => text.parse::<u32>().ok().filter(|n| n.to_string() == *text),
        Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    let lowest = options
        .iter()
        .filter(|o| number(o).is_some())
        .min_by_key(|o| number(o));
    lowest
        .or_else(|| options.first())
        .map(|option| option.key.clone())
}
