//! Workflow files.

use super::*;

variables! { "Workflow endpoints"
    WORKFLOW_DIR = PATH, "/workflows",
        "files that become POST /workflow/... endpoints";
    WORKFLOW_WATCH = FLAG, "false",
        "reload changed files";
    MARKDOWN_SCHEMA_DESCRIPTIONS = FLAG.of_node(), "true",
        "describe inputs as a markdown table in /docs";
}
