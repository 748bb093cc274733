"""`dreamforge mcp`: agents that start their servers as commands reach the gateway."""

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.console import run


def mcp() -> None:
    """Serve MCP on standard input and output, for agents that start their servers as commands.

    Tools, answers and errors are those of the gateway at /mcp. It ends with its input.

    Examples:

      dreamforge mcp --gateway http://gpu-box:8080

      {"mcpServers": {"dreamforge": {"command": "dreamforge", "args": ["mcp"]}}}
    """
    from dreamforge.cli.client.gateway import connection_of
    from dreamforge.cli.client.mcp_bridge import bridge

    settings = cli_settings.load()
    connection = connection_of(settings)
    run(bridge(f"{connection.base_url}/mcp", connection.headers))
