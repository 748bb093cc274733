"""Objects of lost attempts are removed, images that a job shows stay; nothing is removed before the fold caught up."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest

from dreamforge.contracts.errors import OtherLog
from dreamforge.projector.maintenance.artifact_collector import candidates, collect
from dreamforge.projector.maintenance.named_objects import named
from dreamforge.projector.maintenance.object_removal import settle
from dreamforge.projector.maintenance.upload_collector import UploadRules, collect_uploads
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.storage.bucket_owner import claim, mark
from dreamforge.runtime.storage.objects import (
    ObjectStore,
    StoredObject,
    upload_deletion_key,
    upload_key,
    upload_owner_key,
)
from dreamforge.runtime.storage.postgres import connect
from dreamforge.runtime.storage.settings import ObjectStoreSettings


@dataclass
class World:
    """A log, a database and a bucket of the test's own."""

    bus: Bus
    store: ObjectStore
    database_url: str
    log_id: str

    def shows(self, key: str, *, visible: bool) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(
                'INSERT INTO artifacts (artifact_id, job_id, attempt, "index", visible, sha256, object_key, size_bytes,'
                " content_type, width_px, height_px, seed, recipe, stored_at)"
                " VALUES (%s, 'J', 1, 0, %s, '', %s, 1, 'image/png', 1, 1, 1, '{}', now())",
                (key, visible, key),
            )

    def folded(self, sequence: int) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("INSERT INTO checkpoints VALUES ('JOBS', %s, now(), %s)", (sequence, self.log_id))

    async def keys(self) -> set[str]:
        return {found.key for found in await self.store.listed()}


@pytest.fixture
async def world(nats_url: str, database_url: str, forge_env: dict[str, str]) -> AsyncIterator[World]:
    names = {name.removeprefix("FORGE_").lower(): value for name, value in forge_env.items()}
    s3 = {name: value for name, value in names.items() if name.startswith("s3_")}
    store = ObjectStore(ObjectStoreSettings(_env_file=None, **s3))  # type: ignore[arg-type]  # text of variables
    bus = await bus_module.connect(nats_url, "test")
    await ensure_streams(bus)
    log_id = (await stream_place(bus, "JOBS")).log_id
    await claim(store, log_id)
    for key in ("images/aa/shown.png", "images/bb/hidden.png", "images/cc/unknown.png"):
        await store.put(key, b"x", "image/png")
    yield World(bus, store, database_url, log_id)
    await bus.close()


async def test_only_objects_that_a_job_shows_are_kept(world: World) -> None:
    world.folded(0)
    world.shows("images/aa/shown.png", visible=True)
    world.shows("images/bb/hidden.png", visible=False)
    dry = await collect(world.database_url, world.bus, world.store, grace_seconds=0, dry_run=True)
    assert sorted(dry.orphans) == ["images/bb/hidden.png", "images/cc/unknown.png"]
    assert len(await world.keys()) == 3
    done = await collect(world.database_url, world.bus, world.store, grace_seconds=0)
    assert (done.seen, done.freed_bytes) == (3, 2)
    assert await world.keys() == {"images/aa/shown.png"}


async def test_uploads_are_never_collected(world: World) -> None:
    world.folded(0)
    await world.store.put(upload_key("d" * 64), b"x", "image/png")
    await collect(world.database_url, world.bus, world.store, grace_seconds=0)
    assert await world.store.exists(upload_key("d" * 64))
    assert await world.keys() == set()


async def test_uploads_that_nothing_needs_are_collected(world: World) -> None:
    """`a` is deleted by its owner, `b` is named by no job, `c` is needed by an open job, `d` has another owner."""
    world.folded(0)
    for name in "abcd":
        await world.store.put(upload_key(name * 64), b"x", "image/png")
        await world.store.put(upload_owner_key("t", name * 64), b"", "application/x-empty")
    for name in "acd":
        await world.store.remove(upload_owner_key("t", name * 64))
        await world.store.put(upload_deletion_key(name * 64), b"", "application/x-empty")
    await world.store.put(upload_owner_key("u", "d" * 64), b"", "application/x-empty")
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO job_inputs VALUES ('J', %s), ('J', %s)", ("c" * 64, "d" * 64))
        connection.execute(
            "INSERT INTO jobs (job_id, version, tenant, status, priority, model_id, preset, request, attempt,"
            " cancel_requested, requested_at) VALUES ('J', 1, 't', 'queued', 5, 'm', 'p', '{}', 0, false, now())"
        )
    never, at_once = UploadRules(None, None), UploadRules(timedelta(0), None)

    async def collected(rules: UploadRules) -> str:
        async with await connect(world.database_url, name="test") as connection:
            await collect_uploads(connection, world.bus, world.store, rules)
            who_names = partial(named, world.bus, connection, world.store)
            await settle(world.store, who_names, grace_seconds=0)  # as the collection of images does
        return "".join([name for name in "abcd" if await world.store.exists(upload_key(name * 64))])

    assert await collected(never) == "bcd"
    assert not await world.store.exists(upload_deletion_key("a" * 64))
    assert await collected(at_once) == "cd"
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("UPDATE jobs SET finished_at = now()")
    assert await collected(never) == "d"


async def test_young_objects_are_kept(world: World) -> None:
    world.folded(0)
    assert (await collect(world.database_url, world.bus, world.store, grace_seconds=3600)).orphans == ()


async def test_nothing_is_collected_while_the_tables_are_behind(world: World) -> None:
    world.folded(0)
    await world.bus.js.publish("forge.jobs.J.0.requested", b"{}")
    done = await collect(world.database_url, world.bus, world.store, grace_seconds=0)
    assert done.behind
    assert len(await world.keys()) == 3


async def test_nothing_is_collected_on_the_word_of_tables_that_do_not_say_which_log_they_are_of(world: World) -> None:
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO checkpoints VALUES ('JOBS', 0, now())")
    with pytest.raises(OtherLog, match="they do not say which log"):
        await collect(world.database_url, world.bus, world.store, grace_seconds=0)
    assert len(await world.keys()) == 3


async def test_nothing_is_collected_from_a_bucket_of_another_log(world: World) -> None:
    world.folded(0)
    await mark(world.store, "another")
    with pytest.raises(OtherLog, match="names log another"):
        await collect(world.database_url, world.bus, world.store, grace_seconds=0)
    assert len(await world.keys()) == 3


def test_objects_older_than_the_log_are_kept() -> None:
    made_at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    before, after = (StoredObject(str(s), 1, made_at + timedelta(seconds=s)) for s in (-1, 1))
    assert candidates([before, after], made_at + timedelta(hours=9), 0, made_at) == [after]
