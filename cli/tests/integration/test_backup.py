"""Backup and restore against real servers: the copy is the log, to the sequence, and the objects, to the byte."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dreamforge.cli.backups import object_files
from dreamforge.cli.backups.check import check_backup
from dreamforge.cli.backups.create import BackupDone, create_backup
from dreamforge.cli.backups.manifest import MANIFEST, read_manifest, read_objects
from dreamforge.cli.backups.object_files import path_of
from dreamforge.cli.backups.restore import RestoreDone, restore_backup
from dreamforge.cli.backups.secrets import restore_secrets, save_secrets
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.private_folder import make_private
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.testing.buckets import S3Settings

SUBJECT = "forge.jobs.{}.0.requested"
KEY = "images/{}.png"


def quiet(_text: str) -> None:
    """Progress that is not shown."""


class Installation:
    """A log, a bucket and a folder."""

    def __init__(self, settings: CliSettings, bus: Bus, folder: Path) -> None:
        self.settings, self.bus, self.folder = settings, bus, folder
        self.objects = ObjectStore(settings)

    async def append(self, *names: str) -> None:
        for name in names:
            await self.bus.js.publish(SUBJECT.format(name), name.encode(), headers={"ce-id": name})

    async def put(self, *names: str) -> None:
        for name in names:
            await self.objects.put(KEY.format(name), name.encode(), "image/png")

    async def backup(self, folder: Path) -> BackupDone:
        return await create_backup(self.settings, self.folder, folder, quiet)

    async def restore(self, folder: Path) -> RestoreDone:
        return await restore_backup(self.settings, self.folder, folder, quiet)

    async def messages(self) -> list[tuple[int, str, bytes, str | None]]:
        state = (await self.bus.request("$JS.API.STREAM.INFO.JOBS", None))["state"]
        found = [await direct_get.one(self.bus, "JOBS", number) for number in range(1, int(state["last_seq"]) + 1)]
        return [(each.sequence, each.subject, each.data, each.headers.get("ce-id")) for each in found if each]

    async def stored(self) -> dict[str, bytes]:
        return {each.key: await self.objects.get(each.key) for each in await self.objects.listed("")}


@contextlib.asynccontextmanager
async def installation(nats: NatsServer, s3: S3Settings, folder: Path) -> AsyncIterator[Installation]:
    environment = {**nats.settings_env(), **s3.settings_env()}
    values = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
    make_private(folder)
    bus = await connect(nats.url, "test")
    yield Installation(CliSettings(_env_file=None, **values), bus, folder)  # type: ignore[arg-type]  # pydantic parses
    await bus.close()


@pytest.fixture
async def first(nats_server: NatsServer, s3_settings: S3Settings, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(nats_server, s3_settings, tmp_path / "first") as made:
        await made.objects.ensure_bucket()
        await ensure_streams(made.bus)
        yield made


@pytest.fixture
async def second(s3_settings: S3Settings, tmp_path: Path) -> AsyncIterator[Installation]:
    """Without a stream and without a bucket."""
    bucket = s3_settings.with_fresh_bucket()
    async with NatsServer(tmp_path / "nats2") as nats, installation(nats, bucket, tmp_path / "second") as made:
        yield made
    bucket.remove_bucket()


async def test_what_is_restored_is_what_was_there(first: Installation, second: Installation, tmp_path: Path) -> None:
    await first.append("a", "b", "c")
    await first.bus.request("$JS.API.STREAM.MSG.DELETE.JOBS", {"seq": 2, "no_erase": True})
    await first.put("one", "two")
    done = await first.backup(tmp_path / "copy")
    assert (done.events, done.objects, done.copied) == (2, 2, 2)
    restored = await second.restore(tmp_path / "copy")
    assert await second.messages() == await first.messages() != []
    assert [sequence for sequence, *_ in await second.messages()] == [1, 3]
    assert await second.stored() == await first.stored()
    assert (await second.objects.head(KEY.format("one"))).content_type == "image/png"
    assert (restored.events, restored.stored) == (2, 2)
    places = [(await each.bus.request("$JS.API.STREAM.INFO.JOBS", None)) for each in (first, second)]
    assert places[0]["config"] == places[1]["config"]  # identity and limits included
    await second.append("d")  # and it is a log as any other
    assert (await second.messages())[-1][:2] == (4, SUBJECT.format("d"))


async def test_the_places_of_consumers_come_along(first: Installation, second: Installation, tmp_path: Path) -> None:
    await first.append("a", "b")
    await first.bus.js.pull_subscribe("forge.jobs.>", durable="reaction", stream="JOBS")
    reader = await first.bus.js.pull_subscribe_bind("reaction", stream="JOBS")
    (message,) = await reader.fetch(1)
    await message.ack_sync()
    await first.backup(tmp_path / "copy")
    await second.restore(tmp_path / "copy")
    again = await second.bus.js.pull_subscribe_bind("reaction", stream="JOBS")
    assert (await again.fetch(1))[0].data == b"b"


async def test_a_copy_while_events_are_appended_has_all_up_to_its_end(
    first: Installation, second: Installation, tmp_path: Path
) -> None:
    await first.append(*(f"before{number}" for number in range(50)))
    copied_all = asyncio.Event()

    async def append_meanwhile() -> None:
        for number in itertools.count():
            await first.append(f"while{number}")
            if copied_all.is_set():
                return

    appending = asyncio.create_task(append_meanwhile())
    await first.backup(tmp_path / "copy")
    copied_all.set()
    await appending
    await second.restore(tmp_path / "copy")
    copied, all_of_them = await second.messages(), await first.messages()
    assert copied == all_of_them[: len(copied)]
    assert 50 <= len(copied) < len(all_of_them)


async def test_the_next_backup_copies_what_is_new_and_forgets_what_was_erased(
    first: Installation, second: Installation, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    await first.append("a")
    await first.put("one", "two")
    await first.backup(folder)
    await first.objects.remove(KEY.format("one"))
    await first.put("three")
    await first.append("b")
    done = await first.backup(folder)
    assert (done.copied, done.removed, done.objects, done.events) == (1, 1, 2, 2)
    assert not path_of(folder, KEY.format("one")).exists()
    assert len(list((folder / "streams").iterdir())) == len(read_manifest(folder).streams)
    await second.restore(folder)
    assert await second.messages() == await first.messages()
    assert set(await second.stored()) == {KEY.format("two"), KEY.format("three")}


async def test_a_restore_that_was_cut_off_goes_on(
    first: Installation, second: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await first.append("a")
    await first.put("one", "two", "three")
    await first.backup(tmp_path / "copy")
    whole = path_of(tmp_path / "copy", KEY.format("two"))
    whole.rename(whole.with_suffix(".away"))
    monkeypatch.setattr(object_files, "AT_ONCE", 1)
    with pytest.raises(CommandError, match="is missing"):
        await second.restore(tmp_path / "copy")
    whole.with_suffix(".away").rename(whole)
    again = await second.restore(tmp_path / "copy")
    assert (again.streams, again.stored) == ((), 1)
    assert await second.messages() == await first.messages()
    assert await second.stored() == await first.stored()


async def test_nothing_is_restored_over_other_events(first: Installation, second: Installation, tmp_path: Path) -> None:
    await first.append("a")
    await first.backup(tmp_path / "copy")
    await ensure_streams(second.bus)
    await second.append("mine")
    with pytest.raises(CommandError, match="there are events already") as refused:
        await second.restore(tmp_path / "copy")
    assert refused.value.facts["stream"] == "JOBS"
    assert [data for _, _, data, _ in await second.messages()] == [b"mine"]


@pytest.mark.parametrize("what", ["streams", "objects", "list", "missing"])
async def test_a_damaged_backup_is_refused_by_the_name_of_the_file(
    first: Installation, second: Installation, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "copy"
    await first.append("a")
    await first.put("one")
    await first.backup(folder)
    check_backup(folder, quiet)
    (jobs,) = folder.glob("streams/JOBS*")
    (saved,) = read_objects(folder)
    path = {"streams": jobs, "list": folder / "objects.jsonl"}.get(what, path_of(folder, saved.key))
    path.unlink() if what == "missing" else path.write_bytes(path.read_bytes()[:-1] + b"~")
    with pytest.raises(CommandError) as refused:
        check_backup(folder, quiet)
    assert refused.value.facts == {"file": str(path)}
    if what != "missing":
        with pytest.raises(CommandError, match="other bytes"):
            await second.restore(folder)


async def test_a_folder_without_a_complete_backup_is_refused(first: Installation, tmp_path: Path) -> None:
    await first.backup(tmp_path / "copy")
    (tmp_path / "copy" / MANIFEST).unlink()
    with pytest.raises(CommandError, match="no complete backup"):
        check_backup(tmp_path / "copy", quiet)
    (tmp_path / "copy" / MANIFEST).write_text(json.dumps({"format": 2}))
    with pytest.raises(CommandError, match="no manifest that this release can read"):
        check_backup(tmp_path / "copy", quiet)


async def test_a_backup_of_another_log_is_not_replaced(
    first: Installation, second: Installation, tmp_path: Path
) -> None:
    await first.append("a")
    await first.backup(tmp_path / "copy")
    await ensure_streams(second.bus)
    await second.objects.ensure_bucket()
    with pytest.raises(CommandError, match="a backup of another log"):
        await second.backup(tmp_path / "copy")
    assert check_backup(tmp_path / "copy", quiet).events == 1


async def test_a_backup_is_for_its_owner_alone(first: Installation, tmp_path: Path) -> None:
    await first.backup(tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0


def test_secrets_are_put_back_and_never_over_others(tmp_path: Path) -> None:
    old, copy, new = (tmp_path / name for name in ("old", "copy", "new"))
    for folder in (old, copy, new):
        folder.mkdir()
    (old / "secrets.json").write_text('{"key": 1}')
    names = save_secrets(old, copy)
    restore_secrets(copy, names, new)
    restore_secrets(copy, names, new)
    assert (new / "secrets.json").read_text() == '{"key": 1}'
    assert (new / "secrets.json").stat().st_mode & 0o077 == 0
    (new / "secrets.json").write_text("other")
    with pytest.raises(CommandError, match="there are other secrets already"):
        restore_secrets(copy, names, new)
    assert (new / "secrets.json").read_text() == "other"


@pytest.mark.parametrize("key", ["../outside", "/outside", "a/../../b", "a//b", ""])
def test_no_key_leads_out_of_the_folder(key: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be a file name"):
        path_of(tmp_path, key)
