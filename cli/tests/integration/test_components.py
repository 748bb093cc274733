"""A pipeline is whole whose parts are in several repositories: HiDream's tiny one, with its Llama elsewhere."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dreamforge.cli.models.errors import DownloadFailed, FileListMissing
from dreamforge.cli.models.install import download_model
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.descriptor_file import CatalogEntry, parse_entry
from dreamforge.contracts.models.source import licences_of
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_folder import survey
from dreamforge.runtime.storage.model_inspection import inspect_model

from .faulty_server import FaultyServer, serving

pytestmark = pytest.mark.torch
LLAMA = ("text_encoder_4", "tokenizer_4")
LICENCES = {"licence": "Llama 3.1 Community License", "gated": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline in one folder."""
    from runner_testkit.families import ensure_family

    return ensure_family(tmp_path_factory.mktemp("models"), "hidream")


@pytest.fixture
def apart(whole: Path, tmp_path: Path) -> Path:
    """The same as its publishers have it: `o/hidream` without Llama, which is `meta/llama`, all of it at the top."""
    own = shutil.copytree(whole, tmp_path / "o" / "hidream", ignore=shutil.ignore_patterns(*LLAMA, "dreamforge.json"))
    index = json.loads((own / "model_index.json").read_text())
    (own / "model_index.json").write_text(json.dumps({name: index[name] for name in index if name not in LLAMA}))
    llama = shutil.copytree(whole / LLAMA[0], tmp_path / "meta" / "llama")
    shutil.copytree(whole / LLAMA[1], llama, dirs_exist_ok=True)
    (llama / "original").mkdir()
    (llama / "original" / "consolidated.00.pth").write_bytes(b"a pickle that nothing asks for")
    return tmp_path


@pytest.fixture
async def hub(apart: Path) -> AsyncIterator[FaultyServer]:
    """A server that has both repositories."""
    served: dict[str, bytes] = {}
    for name in ("o/hidream", "meta/llama"):
        paths = [path for path in (apart / name).rglob("*") if path.is_file()]
        files = {path.relative_to(apart / name).as_posix(): path.read_bytes() for path in paths}
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        served |= {f"{name}/resolve/c0ffee/{path}": content for path, content in files.items()}
        answer = json.dumps({"id": name, "sha": "c0ffee", "siblings": siblings}).encode()
        served |= {f"api/models/{name}/revision/{revision}": answer for revision in ("main", "c0ffee")}
    async with serving(served) as server:
        yield server


def entry_of(whole: Path, source: dict[str, Any], location: str = "meta/llama") -> CatalogEntry:  # Any: open JSON
    index = json.loads((whole / "model_index.json").read_text())
    components = [
        {"name": name, "library": index[name][0], "class_name": index[name][1], "location": location, **LICENCES}
        for name in LLAMA
    ]
    described = json.loads((whole / "dreamforge.json").read_text())
    fields = {name: described[name] for name in ("family", "presets", "vram", "size_multiple_px")}
    return parse_entry(
        {**fields, "model_id": "m", "licence": "MIT", "source": {**source, "components": components}}, "m.yaml"
    )


def settings_of(tmp_path: Path, hub_url: str = "http://127.0.0.1:9") -> CliSettings:
    return CliSettings(runner_models_dir=tmp_path / "models", models_check="headers", hub_url=hub_url)


def image_of(folder: Path) -> str:
    """What a renderer makes of a folder, as a hash."""
    from runner_testkit.tasks import render_task

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.renderer import ModelKey

    task = render_task(model_id="hidream", model_path=str(folder), steps=2)
    renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1)
    renderer.load(ModelKey.of_task(task))
    return hashlib.sha256(renderer.render(task, 1, lambda *_: None).scanlines).hexdigest()


async def test_both_repositories_become_one_folder_that_renders_and_counts_as_the_whole(
    whole: Path, hub: FaultyServer, tmp_path: Path
) -> None:
    entry = entry_of(whole, {"kind": "hub", "location": "o/hidream"})
    descriptor, folder = await download_model(
        settings_of(tmp_path, hub.url), entry, base_folder=tmp_path / "own", quiet=True
    )
    assert image_of(folder) == image_of(whole)
    found, expected = inspect_model(folder), inspect_model(whole)
    assert (found.size, found.family) == (expected.size, "hidream")
    assert set(found.files) == set(expected.files)
    assert descriptor.source is not None
    assert {each.revision for each in descriptor.source.components} == {descriptor.source.revision} == {"c0ffee"}
    assert licences_of(descriptor.licence, descriptor.source) == ("MIT", LICENCES["licence"])
    assert ModelDescriptor.model_validate_json((folder / "dreamforge.json").read_bytes()) == descriptor


async def test_what_was_pinned_is_downloaded_again_from_both(whole: Path, hub: FaultyServer, tmp_path: Path) -> None:
    entry = entry_of(whole, {"kind": "hub", "location": "o/hidream"})
    settings = settings_of(tmp_path, hub.url)
    descriptor, folder = await download_model(settings, entry, base_folder=tmp_path / "own", quiet=True)
    shutil.rmtree(folder)
    assert descriptor.source is not None
    pinned = entry.model_copy(update={"source": descriptor.source})
    again, folder = await download_model(settings, pinned, base_folder=tmp_path / "own", quiet=True)
    assert again.source == descriptor.source
    assert survey(folder).digest == again.digest == descriptor.digest


async def test_parts_come_from_folders_too(whole: Path, apart: Path) -> None:
    entry = entry_of(whole, {"kind": "folder", "location": "o/hidream"})
    descriptor, folder = await download_model(settings_of(apart), entry, base_folder=apart, quiet=True)
    assert set(inspect_model(folder).files) == set(inspect_model(whole).files)
    assert descriptor.source is not None
    assert {each.location for each in descriptor.source.components} == {str(apart / "meta" / "llama")}


async def test_a_part_of_elsewhere_takes_the_place_of_the_models_own(whole: Path, apart: Path) -> None:
    other = shutil.copytree(whole / "vae", apart / "other" / "decoder")
    (other / "config.json").write_bytes((whole / "vae" / "config.json").read_bytes() + b"\n")
    vae = {"name": "vae", "library": "diffusers", "class_name": "AutoencoderKL", "licence": "MIT"}
    entry = entry_of(whole, {"kind": "folder", "location": "o/hidream"})
    components = [*entry.source.model_dump()["components"], {**vae, "location": "other", "subfolder": "decoder"}]
    source = type(entry.source).model_validate({**entry.source.model_dump(), "components": components})
    entry = entry.model_copy(update={"source": source})
    _, folder = await download_model(settings_of(apart), entry, base_folder=apart, quiet=True)
    assert (folder / "vae" / "config.json").read_bytes() == (other / "config.json").read_bytes()


async def test_a_licence_that_nobody_accepted_is_said_and_nothing_is_installed(
    whole: Path, hub: FaultyServer, tmp_path: Path
) -> None:
    hub.faults["meta/llama/resolve/c0ffee/config.json"] = lambda _: "403"
    entry = entry_of(whole, {"kind": "hub", "location": "o/hidream"})
    settings = settings_of(tmp_path, hub.url)
    with pytest.raises(DownloadFailed, match=r"text_encoder_4/config\.json.*FORGE_HUB_TOKEN"):
        await download_model(settings, entry, base_folder=tmp_path / "own", quiet=True)
    assert list(settings.models_dir.glob("*/dreamforge.json")) == []


async def test_a_place_without_the_part_is_named(whole: Path, apart: Path) -> None:
    entry = entry_of(whole, {"kind": "folder", "location": "o/hidream"}, location="meta")
    with pytest.raises(
        FileListMissing, match="meta does not list the files of m: it has no file that LlamaForCausalLM reads"
    ):
        await download_model(settings_of(apart), entry, base_folder=apart, quiet=True)
    without = entry.model_copy(update={"source": entry.source.model_copy(update={"components": ()})})
    with pytest.raises(ModelUnusable, match="text_encoder_4 is left out of these files"):
        await download_model(settings_of(apart), without, base_folder=apart, quiet=True)
