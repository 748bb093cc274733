"""The protocol side, by the official SDK: without sessions, so that any replica answers any request."""

from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import ForgeError
from dreamforge.gateway.facades.mcp.calls import call
from dreamforge.gateway.facades.mcp.tools import SCHEMAS, TOOLS
from dreamforge.gateway.http.problems import problem_of

INSTRUCTIONS = (
    "Dream Forge renders images on GPUs of this installation. generate_image and edit_image answer with the images. "
    "Use idempotency_key for calls that you may repeat; explain_job says why a job waits."
)
Context = ServerRequestContext[Any, Request]  # Any: the SDK's lifespan


async def _list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=list(TOOLS))


async def _call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """An error of ours is an answer that says what would be right, so that the model can do it."""
    if params.name not in SCHEMAS:
        raise MCPError(
            code=types.INVALID_PARAMS, message=f"unknown tool {params.name[:80]!r}; tools: {', '.join(SCHEMAS)}"
        )
    try:
        return await call(context, params.name, params.arguments or {})
    except ForgeError as error:
        problem = problem_of(error)
        lines = [problem.detail, *(f"{each.field} {each.detail}" for each in problem.errors)]
        text = "\n".join(dict.fromkeys(lines))
        return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


SERVER: Server[Any] = Server(
    "dreamforge",
    version=version("dreamforge-gateway"),
    title="Dream Forge",
    instructions=INSTRUCTIONS,
    on_list_tools=_list_tools,
    on_call_tool=_call_tool,
)


async def answer(scope: Scope, receive: Receive, send: Send, body_bytes: int) -> None:
    """Answer one request."""
    manager = StreamableHTTPSessionManager(
        SERVER, stateless=True, max_request_body_size=body_bytes, session_idle_timeout=None
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)
