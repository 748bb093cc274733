"""HEAD on everything that answers GET: the status and headers of the GET, and no body."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamforge.runtime.service.tasks import cancel

METHOD_NOT_ALLOWED = 405


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let a route that has HEAD answer it, any other one a GET until its headers are known.

    The answer is ended there: a stream would not end by itself.
    """
    start = await _start_of(app, scope, "HEAD", receive)
    if start is None or start["status"] == METHOD_NOT_ALLOWED:
        start = await _start_of(app, scope, "GET", receive)
    if start is not None:
        await send(start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start_of(app: ASGIApp, scope: Scope, method: str, receive: Receive) -> Message | None:
    """How the application begins its answer; None when it does not. Errors: those of the application."""
    # Without the server's extensions: the body that they would write goes nowhere.
    asked: Scope = {**scope, "method": method, "extensions": {}}
    started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def send_start(message: Message) -> None:
        if message["type"] == "http.response.start" and not started.done():
            started.set_result(message)

    async def answer() -> None:
        await app(asked, receive, send_start)

    answering = asyncio.create_task(answer(), name="head")
    either: set[asyncio.Future[Any]] = {answering, started}  # Any: their results differ
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            answering.result()
    finally:
        await cancel(answering)
        if "route" in asked:
            scope["route"] = asked["route"]
    return started.result() if started.done() else None
