"""A hint of the scheduler has a model read, unless it is loaded or was read a moment ago."""

import asyncio
from pathlib import Path

from dreamforge.contracts.fleet import NextModel
from dreamforge.contracts.log.subjects import next_model_of
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.gpu_runner.supervisor.model_read_ahead import ModelReadAhead
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.testing import eventually


def model(folder: Path, name: str) -> LocalModel:
    (folder / name).mkdir()
    (folder / name / "model.safetensors").write_bytes(b"x" * 100_000)
    descriptor = ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    )
    return LocalModel(descriptor, folder / name)


async def test_the_model_of_a_hint_is_read_and_what_is_no_hint_does_no_harm(nats_url: str, tmp_path: Path) -> None:
    bus = await connect(nats_url, "test")
    ahead = ModelReadAhead({"a": model(tmp_path, "a")}, resident=tuple)
    listening = asyncio.create_task(ahead.listen(bus, "r1"))

    async def told() -> set[str]:
        for data in (b"no JSON", NextModel(model_id="unknown").model_dump_json().encode()):
            await bus.publish(next_model_of("r1"), data)
        await bus.publish(next_model_of("r1"), NextModel(model_id="a").model_dump_json().encode())
        return set(ahead.read)

    await eventually(told, until=lambda read: read == {"a"})
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await bus.close()


async def test_what_is_loaded_or_was_just_read_is_not_read_again(tmp_path: Path) -> None:
    models = {name: model(tmp_path, name) for name in "abc"}
    ahead = ModelReadAhead(models, resident=lambda: {"a"})
    for _ in range(2):
        ahead.want("a", "b", "c")
        await ahead.finished()
    assert list(ahead.read) == ["b", "c"]
    ahead.want("a", "b", "c")
    await ahead.finished()
    assert list(ahead.read) == ["b", "c"]


async def test_with_no_memory_to_spare_nothing_is_read(tmp_path: Path) -> None:
    ahead = ModelReadAhead({"a": model(tmp_path, "a")}, resident=tuple, free_bytes=lambda: 0)
    ahead.want("a")
    await ahead.finished()
    assert ahead.read["a"][0] == 0
