"""An MCP server on standard input and output whose answers are the gateway's: messages pass through unchanged."""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

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
            stdio_server(stdin=cast("anyio.AsyncFile[str]", _lines())) as (of_agent, to_agent),
            to_agent,  # closed at the end: the server waits for that
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_pass_on, of_gateway, to_agent.send)
            await _pass_on(of_agent, to_gateway.send)
            tasks.cancel_scope.cancel()
    except* TransportError as errors:
        raise _unavailable(url, errors) from None


async def _lines() -> AsyncIterator[str]:
    """Standard input, read by a thread that is left behind when this command ends before its input does.

    The SDK's own reader waits for the next line then, and an agent that waits for an answer sends none.
    """
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()

    def read() -> None:
        with open(0, encoding="utf-8", errors="replace", closefd=False) as file, suppress(RuntimeError):  # loop closed
            for line in file:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while line := await lines.get():
        yield line


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
