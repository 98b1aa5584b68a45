//! Tools for agents.

use std::time::Duration;

use crate::config::Reader;
use crate::config::variables::mcp::{MCP, MCP_PREVIEW_PX, MCP_TOOLS, MCP_WAIT_S};

/// `/mcp`.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// `MCP`.
    pub enabled: bool,
    /// `MCP_TOOLS`.
    pub tools: ToolFilter,
    /// `MCP_WAIT_S`.
    pub wait: Duration,
    /// `MCP_PREVIEW_PX`.
    pub preview_px: u32,
}

impl McpConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let patterns = r.list(&MCP_TOOLS);
        for pattern in &patterns {
            let name = pattern.strip_prefix('-').unwrap_or(pattern);
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*".contains(&byte);
            if name.is_empty() || !name.bytes().all(good) {
                r.problem(format!(
                    "MCP_TOOLS: \"{pattern}\" is not a pattern: write names of tools, with * for \
                     any part, and - in front of what is left out, such as *,-run_graph"
                ));
            }
        }
        Self {
            enabled: r.flag(&MCP),
            tools: ToolFilter::new(&patterns),
            wait: r.seconds(&MCP_WAIT_S),
            preview_px: r.number(&MCP_PREVIEW_PX),
        }
    }
}

/// Which tools are offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFilter {
    offered: Vec<String>,
    removed: Vec<String>,
}

impl ToolFilter {
    /// Of patterns; those with `-` in front remove. Nothing but such ones removes from all.
    fn new(patterns: &[String]) -> Self {
        let (removed, mut offered): (Vec<String>, Vec<String>) = patterns
            .iter()
            .cloned()
            .partition(|pattern| pattern.starts_with('-'));
        if offered.is_empty() {
            offered.push("*".to_owned());
        }
        Self {
            offered,
            removed: removed
                .iter()
                .filter_map(|pattern| pattern.strip_prefix('-').map(str::to_owned))
                .collect(),
        }
    }

    /// Whether a tool of this name is offered.
    pub fn offers(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, name));
        any(&self.offered) && !any(&self.removed)
    }
}

/// `*` stands for any part of a name.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_offer_and_remove() {
        let filter =
            |text: &str| ToolFilter::new(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        for (patterns, name, offered) in [
            ("*", "run_graph", true),
            ("*,-run_graph,-download_model", "run_graph", false),
            ("*,-run_graph,-download_model", "get_job", true),
            ("-run_graph", "portrait", true),
            ("-run_graph", "run_graph", false),
            ("get_*,list_*", "get_job", true),
            ("get_*,list_*", "run_graph", false),
            ("*_job", "get_job", true),
            ("*_job", "get_jobs", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("get_job", "get_job", true),
            ("get_job", "get_job2", false),
            ("**", "x", true),
        ] {
            assert_eq!(filter(patterns).offers(name), offered, "{patterns} {name}");
        }
    }
}
