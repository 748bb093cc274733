"""An MCP server on standard input and output whose answers are the gateway's: messages pass through unchanged."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import anyio
from loguru import logger
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.message import SessionMessage


async def bridge(url: str, headers: dict[str, str]) -> None:
    """Pass messages between standard input and output and the MCP endpoint at `url`, until the input ends.

    A gateway that cannot be reached is an error of the request that asked for it: the next one is tried again.
    """
    async with (
        create_mcp_http_client(headers) as http,
        streamable_http_client(url, http_client=http) as (of_gateway, to_gateway),
        stdio_server() as (of_agent, to_agent),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_pass_on, of_gateway, to_agent.send)
        await _pass_on(of_agent, to_gateway.send)
        tasks.cancel_scope.cancel()


async def _pass_on(
    messages: AsyncIterable[SessionMessage | Exception], send: Callable[[SessionMessage], Awaitable[Any]]
) -> None:
    async for message in messages:
        if isinstance(message, Exception):
            logger.error("not a message of MCP: {}", message)
        else:
            await send(message)
