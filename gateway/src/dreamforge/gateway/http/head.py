"""HEAD on everything that answers GET: the status and headers of the GET, and no body."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamforge.runtime.service.tasks import cancel


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application answer a GET until its headers are known, then end it: a stream would not end by itself."""
    asked: Scope = {**scope, "method": "GET"}
    started = asyncio.Event()

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            started.set()

    answering = asyncio.create_task(_run(app, asked, receive, send_head), name="head")
    waiting = asyncio.create_task(started.wait(), name="head-started")
    try:
        await asyncio.wait({answering, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        await cancel(answering, waiting)
        if "route" in asked:
            scope["route"] = asked["route"]


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
