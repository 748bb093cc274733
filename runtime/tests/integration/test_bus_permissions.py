"""Each user of NATS can do what the table says, and nothing else: every attempt is refused by a real server."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dreamforge.contracts.errors import DependencyAway, MalformedEvent
from dreamforge.contracts.events import JobStarted
from dreamforge.contracts.log.envelope import seal, unseal
from dreamforge.contracts.log.permissions import (
    ERASURES,
    PROJECTOR,
    RUNNER_FOLLOWERS,
    SERVICES,
    inbox_of,
    permissions_of,
)
from dreamforge.contracts.log.streams import RUNNERS
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.streams import ensure_streams, require_streams
from dreamforge.runtime.log.views import FleetView
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.blocking import run_blocking

USERS = (*SERVICES, "runner-r1", "runner-r2")
NOBODYS = (
    "$JS.API.STREAM.CREATE.X",
    "$JS.API.STREAM.UPDATE.JOBS",
    "$JS.API.STREAM.DELETE.JOBS",
    "$JS.API.STREAM.PURGE.JOBS",
    "$JS.API.STREAM.PURGE.KV_runners",
    "$JS.API.STREAM.MSG.DELETE.JOBS",
    "$JS.API.STREAM.SNAPSHOT.JOBS",
    "$JS.API.STREAM.RESTORE.JOBS",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.NAMES.JOBS",
    "$JS.API.CONSUMER.LIST.JOBS",
    "$JS.API.CONSUMER.CREATE.JOBS",  # without a name in the subject, the name in the request may be another's
    "$JS.API.CONSUMER.CREATE.JOBS.other",
    "$JS.API.CONSUMER.DURABLE.CREATE.JOBS.other",
    "$JS.API.CONSUMER.DELETE.JOBS.runner-r1",
    "$JS.API.CONSUMER.DELETE.ADVISORIES.parking",
    "$JS.API.CONSUMER.PAUSE.JOBS.runner-r1",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JOBS.runner-r1",
    "$KV.runners.somebody",
    "$KV.leaders.somebody",
    "forge.keys.k.created",
    "forge.keys.k.revoked",
    "forge.models.m.removed",
    "forge.timers.due.J",
    "forge.jobs.J.1.started",  # without a runner at its end it would be of an older release
    "forge.jobs.J.1.succeeded.somebody",
    "_INBOX_admin.x",
    "_INBOX.x",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with our streams, and the users of a stack with two runners."""
    folder = tmp_path_factory.mktemp("nats")
    server = NatsServer(folder, fsync=False, runner_ids=("r1", "r2"), streams=True)
    run_blocking(server.start())
    yield server
    run_blocking(server.stop())


class Refusals:
    """A connection of one user, and what the server refused it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._errors: asyncio.Queue[str] = asyncio.Queue()

    async def error(self, error: Exception) -> None:
        await self._errors.put(str(error).lower())

    async def of_publishing(self, subjects: Iterable[str]) -> set[str]:
        """Those of the subjects that were refused; the server answers in order, so that the last one marks the end."""
        asked = {subject.lower(): subject for subject in subjects}
        for subject in (*asked.values(), "never.allowed"):
            await self.bus.nc.publish(subject, b"")
        return {asked[name] for name in await self._until("never.allowed")}

    async def of_subscribing(self, subjects: Iterable[str]) -> set[str]:
        """Those of the subjects that were refused."""
        asked = {subject.lower(): subject for subject in subjects}
        for subject in (*asked.values(), "never.allowed"):
            await self.bus.nc.subscribe(subject)
        return {asked[name] for name in await self._until("never.allowed")}

    async def _until(self, mark: str) -> set[str]:
        found: set[str] = set()
        while True:
            error = await asyncio.wait_for(self._errors.get(), 20)
            match = re.search(r'for (?:publish|subscription) to "([^"]+)"', error)
            assert match is not None, error
            if match[1] == mark:
                return found
            found.add(match[1])


@asynccontextmanager
async def connected(server: NatsServer, user: str) -> AsyncIterator[Bus]:
    env = server.service_env(user)
    bus = await connect(env["FORGE_NATS_URL"], "test", user=user, seed_file=Path(env["FORGE_NATS_SEED_FILE"]))
    yield bus
    await bus.close()


@asynccontextmanager
async def attempts(server: NatsServer, user: str) -> AsyncIterator[Refusals]:
    async with connected(server, user) as bus:
        refusals = Refusals(bus)
        bus.nc._error_cb = refusals.error  # the library has no other way to hear of refusals later
        yield refusals


def concrete(pattern: str) -> str:
    """A subject that a pattern allows."""
    return pattern.replace("*", "x").replace(">", "x.y")


def allows(pattern: str, subject: str) -> bool:
    """The wildcards of NATS, written once more, so that the server's word is compared with ours."""
    parts = [re.escape(part) for part in pattern.split(".")]
    text = r"\.".join({r"\*": r"[^.]+", ">": r".+"}.get(part, part) for part in parts)
    return re.fullmatch(text, subject) is not None


@pytest.mark.parametrize("user", USERS)
async def test_a_user_publishes_what_the_table_says_and_nothing_that_others_may(server: NatsServer, user: str) -> None:
    own = permissions_of(user).publish_subjects
    everything = {concrete(each) for other in USERS for each in permissions_of(other).publish_subjects} | set(NOBODYS)
    # What is answered by acting is not tried: a user's own consumers are deleted for good.
    expected = {subject for subject in everything if not any(allows(pattern, subject) for pattern in own)}
    assert expected >= set(NOBODYS) - (set(ERASURES) if user == PROJECTOR else set())
    async with attempts(server, user) as attempt:
        assert await attempt.of_publishing(sorted(everything)) == expected


@pytest.mark.parametrize("user", USERS)
async def test_a_user_reads_its_own_answers_only(server: NatsServer, user: str) -> None:
    others = [f"{inbox_of(other)}.>" for other in (*USERS, "admin", "") if other != user]
    others += [f"forge.deliver.{runner}" for runner in ("r1", "r2") if user != f"runner-{runner}"]
    others += [">", "*.>", "forge.>", "forge.jobs.>", "forge.keys.>", "$KV.>", "$JS.>", "$SYS.>"]
    async with attempts(server, user) as attempt:
        assert await attempt.of_subscribing(others) == set(others)
        assert await attempt.of_subscribing(permissions_of(user).subscribe_subjects) == set()


async def test_a_seed_is_of_one_user_and_no_seed_is_let_in_without_it(server: NatsServer, tmp_path: Path) -> None:
    """The name that a process says it has changes nothing: the server goes by the key."""
    env = server.service_env("runner-r1")
    other = await connect(env["FORGE_NATS_URL"], "test", user="runner-r1", seed_file=Path(env["FORGE_NATS_SEED_FILE"]))
    refusals = Refusals(other)
    other.nc._error_cb = refusals.error
    assert await refusals.of_publishing(["$KV.runners.r2"]) == {"$KV.runners.r2"}
    await other.close()
    modes = [path.stat().st_mode & 0o777 for path in (server.folder / "users").iterdir()]
    assert set(modes) == {0o600}


async def copied(server: NatsServer, data: bytes, headers: dict[str, str], to: str) -> None:
    """Store as runner r1 what it may, and have the server publish it where r1 may not: as an answer to r1."""
    async with connected(server, "runner-r1") as bus:
        own = "forge.models.m.registered"
        await bus.nc.request(own, data, headers=headers, timeout=5)
        await bus.nc.publish(f"$JS.API.DIRECT.GET.MODELS.{own}", b"", reply=to)
        await bus.nc.flush()


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    """The administrator's connection."""
    bus = await connect(server.url, "test")
    yield bus
    await bus.close()


async def test_a_message_that_the_server_copied_as_an_answer_is_nobodys_fact(server: NatsServer, bus: Bus) -> None:
    """Permissions do not hold for the subject of an answer: the message is stored, and every reader refuses it."""
    event = JobStarted(at=datetime.now(UTC), attempt=1, written_by="r2", runner_id="r2", instance_id="i")
    envelope = seal(event, entity_id="FORGED", event_id="1", source="/r1")
    await copied(server, envelope.data, dict(envelope.headers), envelope.subject)
    found = await eventually(lambda: direct_get.last_of_each(bus, "JOBS", "forge.jobs.FORGED.>"), until=bool)
    readers: list[LogMessage] = [*found, *filter(None, [await leader_get.one(bus, "JOBS", found[0].sequence)])]
    async for batch in Follower(bus, "JOBS", ("forge.jobs.FORGED.>",)).batches():
        readers += batch.messages
        if batch.pending == 0:
            break
    assert len(readers) == 3
    for message in readers:
        assert message.headers["ce-type"] == JobStarted.TYPE
        with pytest.raises(MalformedEvent, match="the server copied it"):
            unseal(message.subject, message.headers, message.data, sequence=message.sequence)


async def test_a_heartbeat_that_the_server_copied_is_ignored(server: NatsServer, bus: Bus) -> None:
    await copied(server, b"{}", {"KV-Operation": "PURGE"}, "$KV.runners.r2")
    lost: list[str] = []
    view = FleetView(bus, on_lost=lost.append)
    view._apply((await eventually(lambda: direct_get.last_of_each(bus, "KV_runners", "$KV.runners.r2"), until=bool))[0])
    assert not lost
    assert not view.runners


async def test_processes_of_a_user_follow_with_consumers_of_their_own_names(server: NatsServer) -> None:
    async with connected(server, "runner-r1") as bus:
        following = [Follower(bus, "JOBS") for _ in range(RUNNER_FOLLOWERS)]
        sessions = [follower.batches() for follower in following]
        for session in sessions:
            await anext(session)
        assert len({follower._consumer_name for follower in following}) == RUNNER_FOLLOWERS
        with pytest.raises(DependencyAway, match="follow JOBS already"):
            await Follower(bus, "JOBS")._create_consumer()
        await sessions[0].aclose()  # the place is free again
        sessions[0] = Follower(bus, "JOBS").batches()
        await asyncio.wait_for(anext(sessions[0]), 10)
        for session in sessions:
            await session.aclose()


async def test_services_say_which_command_makes_the_streams(nats_server: NatsServer) -> None:
    bus = await connect(nats_server.url, "test")
    with pytest.raises(DependencyAway, match=r"JOBS, STEPS, FLEET and .* missing.*`dreamforge streams create`"):
        await require_streams(bus)
    made = await ensure_streams(bus)
    assert set(made.values()) == {"created"}
    await require_streams(bus)
    config = (await bus.request("$JS.API.STREAM.INFO.STEPS", None))["config"]
    await bus.request("$JS.API.STREAM.UPDATE.STEPS", config | {"max_age": 700_000_000_000})
    with pytest.raises(DependencyAway, match=r"STEPS are those of another release.*`dreamforge streams create`"):
        await require_streams(bus)
    # Buckets of older releases were in memory, and the server changes that of none.
    await bus.request("$JS.API.STREAM.DELETE.KV_runners", None)
    old = {"name": "KV_runners", "subjects": ["$KV.runners.>"], "storage": "memory", "max_msgs_per_subject": 1}
    await bus.request("$JS.API.STREAM.CREATE.KV_runners", old | {"description": RUNNERS.title})
    again = await ensure_streams(bus)
    assert {name: what for name, what in again.items() if what != "unchanged"} == {
        "STEPS": "updated",
        "KV_runners": "created",
    }
    await require_streams(bus)
    await bus.close()
