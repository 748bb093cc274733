"""`/ws`: the jobs of a client, as they go on, in ComfyUI's messages."""

import asyncio
import json
from dataclasses import dataclass, field

from loguru import logger
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import JobRequested
from dreamforge.gateway.events.hub import Subscription
from dreamforge.gateway.events.live import access_of
from dreamforge.gateway.events.sse import SseEvent
from dreamforge.gateway.events.watch import data_of
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.client_events import ClientEvents, open_client, past_events
from dreamforge.gateway.facades.comfyui.messages import JobMessages, Message, message, status
from dreamforge.gateway.facades.comfyui.refusals import comfy_error, refused
from dreamforge.gateway.facades.comfyui.workflows import CLIENT_ID
from dreamforge.gateway.http.problems import problem_of
from dreamforge.runtime import ids

# RFC 6455, 7.4.1, and IANA's registry: the server goes away; a policy was violated; try again later.
GOING_AWAY, POLICY, TRY_AGAIN = 1001, 1008, 1013
FEATURES = {"supports_preview_metadata": False}


async def listen(websocket: WebSocket) -> None:
    """Answer one client until it leaves."""
    request = Request({**websocket.scope, "type": "http", "method": "GET"})
    client_id = websocket.query_params.get("clientId") or ids.new_id()
    try:
        if CLIENT_ID.fullmatch(client_id) is None:
            raise refused("invalid_client_id", "clientId cannot be read", "it must be 1 to 128 printable characters")
        events = await open_client(request, client_id)
    except ForgeError as error:
        problem = problem_of(error)
        await websocket.send_denial_response(JSONResponse(comfy_error(problem), problem.status, problem.headers))
        return
    await _Connection(websocket, request, events, client_id).run()


ROUTES = [WebSocketRoute(path, listen) for path in ("/ws", "/api/ws")]


@dataclass(slots=True)
class _Connection:
    websocket: WebSocket
    request: Request
    events: ClientEvents
    client_id: str
    features_asked: bool = False
    _jobs: dict[str, JobMessages] = field(default_factory=dict)

    @property
    def subscription(self) -> Subscription:
        """What is heard."""
        return self.events.subscription

    async def run(self) -> None:
        """Send until the client leaves, is too slow, may not read any more, or the process stops."""
        subscription = self.subscription
        subscription.on_overflow = subscription.end
        reading = asyncio.create_task(self._read(), name="comfyui-read")
        subscription.access = access_of(self.websocket.scope)
        try:
            await self.websocket.accept()
            await self._send([status(await runs.open_workflow_number(self.request), sid=self.client_id)])
            await self._take(await past_events(self.request, self.events, self.client_id))
            await self._live()
            await self.websocket.close(self._code())
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("the websocket of a ComfyUI client is closed")  # RuntimeError: while it is written to
        except ForgeError as error:
            logger.warning("the websocket of a ComfyUI client ends: {}", error)
            await self.websocket.close(TRY_AGAIN)
        finally:
            reading.cancel()
            self.events.close()

    def _code(self) -> int:
        if self.subscription.refused:
            return POLICY
        return TRY_AGAIN if self.subscription.overflowed else GOING_AWAY

    async def _read(self) -> None:
        """Clients say little: which features they have, at most."""
        try:
            while True:
                text = await self.websocket.receive_text()
                if '"feature_flags"' in text[:200]:
                    self.features_asked = True
                    self.subscription.wake.set()
        except (WebSocketDisconnect, RuntimeError, KeyError):  # KeyError: a message of bytes
            self.subscription.end()

    async def _live(self) -> None:
        subscription = self.subscription
        while not (subscription.gone or subscription.refused or subscription.overflowed):
            await subscription.wake.wait()
            subscription.wake.clear()
            subscription.heartbeat_due = False  # the protocol has its own
            if self.features_asked:
                self.features_asked = False
                await self._send([message("feature_flags", **FEATURES)])
            await self._take(subscription.take())

    async def _take(self, events: list[SseEvent]) -> None:
        """Send what events say; a client that hears of an end finds the job in the history."""
        counted = 0
        for event in self.events.acceptance.passed(events):
            if event.terminal or isinstance(event.event, JobRequested):
                counted = event.sequence
            if event.terminal:
                await runs.reached(self.request, event.sequence)
            await self._send(self._said(event))
            if event.terminal:
                self._leave(event.job_id)
        if counted:
            await runs.reached(self.request, counted)
            await self._send([status(await runs.open_workflow_number(self.request))])

    def _said(self, event: SseEvent) -> list[Message]:
        data = data_of(event)
        if isinstance(event.event, JobRequested):
            try:
                self._jobs[event.job_id] = JobMessages.of(data)
            except ForgeError as error:  # of a release that knew other nodes
                logger.warning("job {} is not told to its client: {}", event.job_id, error)
                self._leave(event.job_id)
            return []
        job = self._jobs.get(event.job_id)
        return job.take(data) if job is not None else []

    def _leave(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self.events.leave(job_id)

    async def _send(self, messages: list[Message]) -> None:
        for each in messages:
            if isinstance(each, bytes):
                await self.websocket.send_bytes(each)
            else:
                await self.websocket.send_text(json.dumps(each))
