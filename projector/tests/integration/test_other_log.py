"""The log is lost or restored and the tables stay: nothing is written or removed until a person settles it."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import OtherLog
from dreamforge.projector.maintenance.artifact_collector import collect
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.storage.bucket_owner import claim, owner_of
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings
from dreamforge.runtime.testing.streams import declare_streams

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]


@pytest.fixture
def settings(nats_server: NatsServer, database_url: str, s3_settings: S3Settings) -> ProjectorSettings:
    s3 = {name.removeprefix("FORGE_").lower(): value for name, value in s3_settings.settings_env().items()}
    return ProjectorSettings(
        _env_file=None,  # type: ignore[call-arg]
        nats_url=nats_server.url,
        nats_allow_unsynced=True,
        database_url=SecretStr(database_url),
        health_port=free_port(),
        **s3,  # type: ignore[arg-type]  # text of variables
    )


@pytest.fixture
async def writer(nats_server: NatsServer, story: Any) -> AsyncIterator[Callable[[], Awaitable[Bus]]]:
    """Connects the story to the log that is there now, and declares it as services do."""
    opened: list[Bus] = []

    async def again() -> Bus:
        bus = await connect(nats_server.url, "writer")
        opened.append(bus)
        await ensure_streams(bus)
        story.store = EventStore(bus, "/test")
        return bus

    yield again
    for bus in opened:
        await bus.close()


async def ready(settings: ProjectorSettings) -> dict[str, Any]:
    """What /readyz answers; {} while there is no answer."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            found: dict[str, Any] = (await client.get(f"http://127.0.0.1:{settings.health_port}/readyz")).json()
        except httpx.HTTPError:
            return {}
        return found


async def lose(server: NatsServer, put_back: Path | None = None) -> None:
    """The disk of the log is lost, or replaced by an older copy of it."""
    await server.kill()
    shutil.rmtree(server.folder / "jetstream")
    if put_back is not None:
        shutil.copytree(put_back, server.folder / "jetstream")
    await server.restart()


async def another_log(settings: ProjectorSettings) -> str:
    answer = await eventually(
        lambda: ready(settings), 20, until=lambda found: "another log" in found.get("checks", {}).get("log", "")
    )
    assert answer["ready"] is False
    return str(answer["checks"]["log"])


async def test_a_lost_log_stops_what_would_destroy_until_it_is_settled(
    settings: ProjectorSettings,
    nats_server: NatsServer,
    writer: Any,
    story: Any,
    rows: Rows,
    folded: Folded,
    projecting: Any,
    database_url: str,
) -> None:
    bus = await writer()
    objects = ObjectStore(settings)
    await claim(objects, (await stream_place(bus, "JOBS")).log_id)
    await objects.put("images/aa/old.png", b"x", "image/png")
    async with projecting(settings):
        await folded(await story.request("old"))

        await lose(nats_server)
        bus = await writer()
        for number in range(6):  # longer than the log that the tables were made from
            await story.request(f"new-{number}")
        assert "the tables were made from log" in await another_log(settings)
        assert [row["job_id"] for row in await rows("SELECT job_id FROM jobs")] == ["old"]
        assert "another log" in (await status(settings)).other_log
        with pytest.raises(OtherLog):
            await collect(database_url, bus, objects, grace_seconds=0)
        with pytest.raises(OtherLog):
            await verify(settings)

        await rebuild(settings)
        await eventually(lambda: ready(settings), 20, until=lambda found: bool(found.get("ready")))
        assert await rows("SELECT count(*) AS jobs FROM jobs") == [{"jobs": 6}]
        await folded(await story.request("after"))
        assert (await verify(settings)).equal
        assert (await status(settings)).other_log == ""
        assert await owner_of(objects) == (await stream_place(bus, "JOBS")).log_id
        collected = await collect(database_url, bus, objects, grace_seconds=0)
        assert (collected.orphans, await objects.exists("images/aa/old.png")) == ((), True)


async def test_a_log_that_was_restored_from_an_older_copy_and_has_grown_is_known_by_its_events(
    settings: ProjectorSettings,
    nats_server: NatsServer,
    tmp_path: Path,
    writer: Any,
    story: Any,
    rows: Rows,
    folded: Folded,
    projecting: Any,
) -> None:
    await writer()
    await story.request("kept")
    await nats_server.stop()
    shutil.copytree(nats_server.folder / "jetstream", tmp_path / "copy")
    await nats_server.start()
    await writer()
    async with projecting(settings):
        await folded(await story.request("lost"))
    await lose(nats_server, tmp_path / "copy")
    await writer()
    for number in range(3):
        await story.request(f"new-{number}")
    async with projecting(settings):
        assert "at sequence 2 the tables have event" in await another_log(settings)
        await rebuild(settings)
        await eventually(lambda: ready(settings), 20, until=lambda found: bool(found.get("ready")))
    names = [row["job_id"] for row in await rows("SELECT job_id FROM jobs ORDER BY 1")]
    assert names == ["kept", "new-0", "new-1", "new-2"]


async def test_tables_of_an_older_release_are_taken_for_those_of_the_log_whose_events_they_have(
    settings: ProjectorSettings, writer: Any, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    bus = await writer()
    async with projecting(settings):
        await folded(await story.request("A"))
    forget = "UPDATE checkpoints SET log_id = NULL RETURNING 1"
    await rows(forget)
    async with projecting(settings):
        await folded(await story.request("B"))
    recorded = await rows("SELECT log_id FROM checkpoints WHERE stream = 'JOBS'")
    assert recorded == [{"log_id": (await stream_place(bus, "JOBS")).log_id}]

    await rows(forget)
    await rows("UPDATE events SET event_id = 'of another log' RETURNING 1")
    async with projecting(settings):
        assert "at sequence 2 the tables have event of another log" in await another_log(settings)


async def test_a_database_of_another_installation_is_not_written_to(
    settings: ProjectorSettings, tmp_path: Path, writer: Any, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    await writer()
    async with NatsServer(tmp_path / "second") as second:
        await declare_streams(second.url)
        ours = settings.model_copy(update={"nats_url": second.url, "health_port": free_port()})
        async with projecting(settings):
            await folded(await story.request("theirs"))
            async with projecting(ours):
                await another_log(ours)  # also as the one that stands by
        async with projecting(ours):
            await another_log(ours)
    assert await rows("SELECT job_id FROM jobs") == [{"job_id": "theirs"}]
