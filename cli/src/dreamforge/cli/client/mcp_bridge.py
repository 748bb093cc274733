"""An MCP server on standard input and output whose answers are the gateway's: messages pass through unchanged."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import anyio
from httpx2 import TransportError
from loguru import logger
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.message import SessionMessage

from dreamforge.cli.failure import NO_GATEWAY_HINT, CommandError, Exit


async def bridge(url: str, headers: dict[str, str]) -> None:
    """Pass messages between standard input and output and the MCP endpoint at `url`, until the input ends.

    Errors: CommandError when the gateway cannot be reached; agents start the command again.
    """
    try:
        async with (
            create_mcp_http_client(headers) as http,
            streamable_http_client(url, http_client=http) as (of_gateway, to_gateway),
            stdio_server() as (of_agent, to_agent),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_pass_on, of_gateway, to_agent.send)
            await _pass_on(of_agent, to_gateway.send)
            tasks.cancel_scope.cancel()
    except* TransportError as errors:
        raise _unavailable(url, errors) from None


def _unavailable(url: str, errors: BaseExceptionGroup[TransportError]) -> CommandError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return CommandError(f"the gateway cannot be reached at {url}: {first}", Exit.UNAVAILABLE, hint=NO_GATEWAY_HINT)


async def _pass_on(
    messages: AsyncIterable[SessionMessage | Exception], send: Callable[[SessionMessage], Awaitable[Any]]
) -> None:
    async for message in messages:
        if isinstance(message, Exception):
            logger.error("not a message of MCP: {}", message)
        else:
            await send(message)
