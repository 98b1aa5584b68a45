//! Where a job came from.

/// Where a prompt came from. Nothing in `prompt` acts on it but the statistics and the list of
/// prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `POST /prompt`
    Http,
    /// The queue.
    Amqp,
    /// `POST /workflow/...`
    Workflow,
    /// The warmup prompt.
    Warmup,
    /// `POST /api/v2/jobs`
    V2,
    /// A tool of an agent.
    Mcp,
}

impl Source {
    /// The word in bodies and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Amqp => "amqp",
            Self::Workflow => "workflow",
            Self::Warmup => "warmup",
            Self::V2 => "v2",
            Self::Mcp => "mcp",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Http,
        Self::Amqp,
        Self::Workflow,
        Self::Warmup,
        Self::V2,
        Self::Mcp,
    ];

    /// The word for a transport as it was recorded.
    pub fn word(recorded: &str) -> &'static str {
        let words = Self::ALL.into_iter().map(Self::as_str);
        words
            .into_iter()
            .find(|word| *word == recorded)
            .unwrap_or("v2")
    }
}
