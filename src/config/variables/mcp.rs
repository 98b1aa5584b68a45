//! Tools for agents.

use super::*;

variables! { "Tools for agents (MCP)"
    MCP = FLAG, "true",
        "serve `/mcp`; false = 404";
    MCP_TOOLS = LIST, "*",
        "comma-separated patterns of the tools that are offered; `-pattern` removes, such as \
         `*,-run_graph`";
    MCP_WAIT_S = seconds(0.0), "45",
        "how long a tool waits for its job before it answers that the job goes on, seconds";
    MCP_PREVIEW_PX = number(32.0, 4096.0, "pixels"), "1024",
        "longer side of the previews that a model sees, pixels";
    COMFYUI_API_KEY = TEXT.hidden(), "",
        "key that `comfyui-api mcp` presents to the server it forwards to";
}
