"""A runner offers what is on its disk, what came while it runs, and nothing that was removed by hand."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from dreamforge.contracts.installation_events import ModelRemoved
from dreamforge.contracts.model_registry import RegisterModel, RemoveModel
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.models_watcher import ModelsWatcher
from dreamforge.gpu_runner.supervisor.registration import RunnerRegistration
from dreamforge.gpu_runner.supervisor.supervisor import Supervisor
from dreamforge.runtime import clock
from dreamforge.runtime.log.aggregate import MODEL
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.model_files import write_pipeline


@pytest.fixture
async def store(bus: Bus) -> AsyncIterator[EventStore]:
    store = EventStore(bus, "/dreamforge/test")
    yield store
    await store.close()


def put_model(models_dir: Path, model_id: str) -> ModelDescriptor:
    folder = write_pipeline(models_dir / model_id)
    (folder / "README.md").write_text(model_id)
    descriptor = ModelDescriptor(
        model_id=model_id,
        family="diffusers",
        digest=model_digest(folder),
        vram=VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    )
    (folder / DESCRIPTOR_NAME).write_text(descriptor.model_dump_json())
    return descriptor


async def test_a_removed_model_is_not_brought_back_by_a_runner(bus: Bus, store: EventStore, tmp_path: Path) -> None:
    registration, descriptor = RunnerRegistration(bus, store), put_model(tmp_path, "m")
    assert await registration.model(descriptor)
    await store.handle(MODEL, "m", RemoveModel(clock.now()))
    assert not await registration.model(descriptor)
    assert not await registration.model(descriptor.model_copy(update={"title": "described otherwise"}))
    await store.handle(MODEL, "m", RegisterModel(clock.now(), descriptor, by_hand=True))
    assert await registration.model(descriptor)


async def test_other_files_under_an_id_that_a_person_registered_are_not_offered(
    bus: Bus, store: EventStore, tmp_path: Path
) -> None:
    registration, descriptor = RunnerRegistration(bus, store), put_model(tmp_path, "m")
    chosen = descriptor.model_copy(update={"digest": "f" * 64})
    await store.handle(MODEL, "m", RegisterModel(clock.now(), chosen, by_hand=True))
    assert not await registration.model(descriptor)
    assert (await store.read(MODEL, "m")).state.descriptor == chosen
    await store.handle(MODEL, "m", RegisterModel(clock.now(), descriptor, by_hand=True))
    assert await registration.model(descriptor)


async def test_a_runner_that_says_the_same_writes_nothing(bus: Bus, store: EventStore, tmp_path: Path) -> None:
    registration, descriptor = RunnerRegistration(bus, store), put_model(tmp_path, "m")
    await registration.model(descriptor)
    version = (await store.read(MODEL, "m")).version
    await registration.model(descriptor)
    assert (await store.read(MODEL, "m")).version == version


async def test_what_came_and_what_was_removed_is_seen_without_a_restart(
    bus: Bus, store: EventStore, tmp_path: Path
) -> None:
    put_model(tmp_path, "first")
    secret = SecretStr("never used")
    settings = RunnerSettings(s3_secret_key=secret, runner_models_dir=tmp_path, state_dir=tmp_path / "state")
    runner = Supervisor(settings, bus, ObjectStore(settings))
    following = asyncio.create_task(
        ModelsWatcher(bus, runner.look_again, runner.offer.is_outdated, glance_seconds=0.05).run()
    )
    try:

        async def offered(*names: str) -> None:
            await eventually(lambda: runner.attempts.identity.model_ids == set(names))

        await offered("first")
        second = put_model(tmp_path, "second")
        await store.handle(MODEL, "second", RegisterModel(clock.now(), second, by_hand=True))
        await offered("first", "second")
        outcome = await store.handle(MODEL, "first", RemoveModel(clock.now()))
        assert isinstance(outcome.events[0], ModelRemoved)
        await offered("second")
        put_model(tmp_path, "third")  # the registry was not told
        await offered("second", "third")
        shutil.rmtree(tmp_path / "second")
        await offered("third")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await runner.store.close()
