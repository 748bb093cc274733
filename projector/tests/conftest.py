"""A projector under test: the real service in this process, over real servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from dreamforge.contracts.events import ArtifactStored, Decision
from dreamforge.contracts.jobs.decisions import AssignJob, FinishAttempt, RequestJob, StartAttempt
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.projector.main import SERVICE
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service import shell
from dreamforge.runtime.testing import eventually

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def settings(nats_url: str, database_url: str) -> ProjectorSettings:
    return ProjectorSettings(nats_url=nats_url, nats_allow_unsynced=True, database_url=SecretStr(database_url))


@pytest.fixture
def projecting() -> Callable[[ProjectorSettings], AbstractAsyncContextManager[None]]:
    """The whole service, stopped in order at the end."""

    @asynccontextmanager
    async def start(settings: ProjectorSettings) -> AsyncIterator[None]:
        stop = asyncio.Event()
        service = asyncio.create_task(shell.serve(SERVICE, settings, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(service, 20)

    return start


@pytest.fixture
def rows(database_url: str) -> Rows:
    """Reads the tables as the gateway does, over a connection of its own."""

    async def read(query: str, *values: object) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    return read


@pytest.fixture
def folded(rows: Rows) -> Callable[..., Awaitable[None]]:
    """Waits until the tables have passed a sequence."""

    async def wait(sequence: int, stream: str = "JOBS") -> None:
        async def reached() -> bool:
            return bool(await rows("SELECT FROM checkpoints WHERE stream = %s AND sequence >= %s", stream, sequence))

        await eventually(reached)

    return wait


class Story:
    """Jobs and their events, written through the real event store."""

    REQUEST = RenderRequest(
        model_id="m", preset="p", prompt="a cat", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1, images=2
    )
    DECISION = Decision(waited_seconds=0, effective_priority=1, queue_length=0, required_bytes=0, candidates=())

    def __init__(self, store: EventStore) -> None:
        self.store = store

    async def request(self, job_id: str, prompt: str = "a cat", images: int = 2) -> int:
        request = self.REQUEST.model_copy(update={"prompt": prompt, "images": images})
        command = RequestJob(job_id=job_id, now=clock.now(), tenant="t", priority=5, request=request)
        return (await self.store.execute(job_id, command)).version

    async def start(self, job_id: str, attempt: int = 1) -> int:
        await self.store.execute(job_id, AssignJob(clock.now(), attempt, "r1", "i1", 7, self.DECISION))
        return (await self.store.execute(job_id, StartAttempt(clock.now(), attempt, "r1", "i1"))).version

    async def finish(self, job_id: str, attempt: int = 1, images: int = 2) -> int:
        artifacts = tuple(self.artifact(attempt, index) for index in range(images))
        return (await self.store.execute(job_id, FinishAttempt(clock.now(), attempt, artifacts, 1.5))).version

    @staticmethod
    def artifact(attempt: int, index: int) -> ArtifactStored:
        return ArtifactStored(
            at=clock.now(),
            attempt=attempt,
            index=index,
            sha256=f"{index:064x}",
            size_bytes=1,
            content_type="image/png",
            width_px=64,
            height_px=64,
            seed=index,
            recipe={"seed": index, "prompt": "Katze äöü \\ \t \n"},
        )


@pytest.fixture
def story(store: EventStore) -> Story:
    return Story(store)
