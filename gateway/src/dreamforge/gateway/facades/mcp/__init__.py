"""An MCP server at `/mcp`: agents generate, edit, look at, find, cancel and explain jobs."""
