"""`/mcp` in the application. The SDK is imported with the first request: it would double the time of a start."""

import asyncio
from importlib import import_module
from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

PATH = "/mcp"


class McpEndpoint:
    """Each request is a life of its own, whose end is that of its answer."""

    def __init__(self, body_bytes: int) -> None:
        """`body_bytes`: the largest message, with an image in base64 in it."""
        self._body_bytes = body_bytes
        self._module: Any = None  # Any: a module

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._module is None:
            self._module = await asyncio.to_thread(import_module, "dreamforge.gateway.facades.mcp.server")
        await self._module.answer(scope, receive, send, self._body_bytes)


def route(body_bytes: int) -> Route:
    """The route of the endpoint."""
    return Route(PATH, McpEndpoint(body_bytes), methods=["GET", "POST", "DELETE"], include_in_schema=False)
