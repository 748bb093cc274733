"""A model is added, downloaded, verified and removed on a real log; each change is an event."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamforge.cli.models import add as adding
from dreamforge.cli.models import operations
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.models.errors import DownloadFailed, FileListMissing, FolderTaken, RegisteredWithOtherFiles
from dreamforge.cli.models.library import DescriptorNotFound, ModelNotDownloaded
from dreamforge.cli.models.registry import ModelRegistryClient, registry_client
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor_file import DescriptorInvalid, UnknownFamily
from dreamforge.contracts.models.model_files import PickleRefused
from dreamforge.contracts.request.errors import UnknownModel
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, ModelFilesWrong, model_digest
from dreamforge.runtime.testing.model_files import CHECKPOINT, safetensors_bytes
from dreamforge.runtime.testing.streams import declare_streams

from .faulty_server import serving, weights_of

FILES = {
    "model_index.json": b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": weights_of(bytes(range(256)) * 64),
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
PINNED = [
    {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    for path, content in FILES.items()
]
DESCRIBED: dict[str, Any] = {
    "model_id": "m",
    "family": "stable-diffusion",
    "licence": "MIT",
    "vram": {"resident_bytes": 1, "denoise_bytes_per_latent": 1, "decode_bytes_per_px": 1},
    "presets": [{"name": "standard", "width_px": 64, "height_px": 64, "steps": 4, "guidance_scale": 1}],
}


@pytest.fixture
async def settings(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliSettings:
    monkeypatch.chdir(tmp_path)
    await declare_streams(nats_url)
    # These models have whole files and no weights that a network could use.
    return CliSettings(nats_url=nats_url, runner_models_dir=tmp_path / "models", models_check="headers")


@pytest.fixture
async def registry(settings: CliSettings) -> AsyncIterator[ModelRegistryClient]:
    async with registry_client(settings) as registry:
        yield registry


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with the files of the model, outside the models folder."""
    folder = tmp_path / "given"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def described(folder: Path, source: dict[str, object], **changes: object) -> Path:
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump(DESCRIBED | {"source": source} | changes))
    return path


async def downloaded(settings: CliSettings, weights: Path, tmp_path: Path) -> Path:
    source = {"kind": "folder", "location": "nowhere", "files": PINNED}
    await adding.add_file(settings, described(tmp_path, source), quiet=True)
    await operations.download(settings, "m", str(weights), quiet=True)
    return settings.models_dir / "m"


async def test_a_downloaded_model_is_registered_with_every_file(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path, tmp_path: Path
) -> None:
    folder = await downloaded(settings, weights, tmp_path)
    state = await registry.state("m")
    assert state.available
    assert state.descriptor is not None
    assert state.descriptor.source is not None
    assert [file.model_dump() for file in state.descriptor.source.files] == PINNED
    assert state.descriptor.digest == model_digest(weights)
    assert json.loads((folder / DESCRIPTOR_NAME).read_text())["digest"] == state.descriptor.digest


async def test_open_files_of_a_hub_are_pinned_to_what_came(
    settings: CliSettings, registry: ModelRegistryClient, tmp_path: Path
) -> None:
    siblings = [{"rfilename": path, "size": len(content)} for path, content in FILES.items()]
    hub = {f"o/m/resolve/c0ffee/{path}": content for path, content in FILES.items()}
    hub["api/models/o/m/revision/main"] = json.dumps({"id": "o/m", "sha": "c0ffee", "siblings": siblings}).encode()
    await adding.add_file(settings, described(tmp_path, {"kind": "hub", "location": "o/m"}), quiet=True)
    async with serving(hub) as server:
        await operations.download(settings.model_copy(update={"hub_url": server.url}), "m", "", quiet=True)
    descriptor = (await registry.state("m")).descriptor
    assert descriptor is not None
    assert descriptor.source is not None
    assert descriptor.source.revision == "c0ffee"
    assert [file.model_dump() for file in descriptor.source.files] == PINNED


@pytest.mark.parametrize(
    ("url", "path"), [("files/one.safetensors", "one.safetensors"), ("download/models/7", "m.safetensors")]
)
async def test_a_single_file_comes_with_the_configurations_of_its_repository(
    settings: CliSettings, registry: ModelRegistryClient, tmp_path: Path, url: str, path: str
) -> None:
    siblings = [{"rfilename": name, "size": len(content)} for name, content in FILES.items()]
    served = {f"o/m/resolve/c0ffee/{name}": content for name, content in FILES.items() if name != WEIGHTS}
    served["api/models/o/m/revision/main"] = json.dumps({"id": "o/m", "sha": "c0ffee", "siblings": siblings}).encode()
    served[url] = checkpoint = safetensors_bytes(CHECKPOINT)
    async with serving(served) as server:
        settings = settings.model_copy(update={"hub_url": server.url})
        source = {"kind": "single_file", "location": f"{server.url}/{url}", "configuration": "o/m"}
        await adding.add_file(settings, described(tmp_path, source), quiet=True)
        for _ in range(2):  # at first as it is, then as it was pinned
            await operations.download(settings, "m", "", quiet=True)
            folder = settings.models_dir / "m"
            (folder / path).unlink()
            (folder / DESCRIPTOR_NAME).unlink()
        await operations.download(settings, "m", "", quiet=True)
    state = await registry.state("m")
    assert state.descriptor is not None
    assert state.descriptor.source is not None
    assert [file.path for file in state.descriptor.source.files] == sorted(
        [path, "model_index.json", "unet/config.json"]
    )
    assert (state.descriptor.source.revision, (folder / path).read_bytes()) == ("c0ffee", checkpoint)


async def test_a_lone_file_that_cannot_be_a_model_is_refused(settings: CliSettings, tmp_path: Path) -> None:
    source = {"kind": "single_file", "location": "https://mirror.example/m.safetensors"}
    with pytest.raises(DescriptorInvalid, match=r"source.configuration: is missing: .* owner/name"):
        await adding.add_file(settings, described(tmp_path, source), quiet=True)
    source = {"kind": "single_file", "location": "https://mirror.example/m.ckpt", "configuration": "o/m"}
    await adding.add_file(settings, described(tmp_path, source), quiet=True)
    with pytest.raises(PickleRefused, match=r"m\.ckpt"):
        await operations.download(settings, "m", "", quiet=True)
    with_no_index = {"api/models/o/m/revision/main": b'{"id": "o/m", "sha": "c0ffee", "siblings": []}'}
    async with serving(with_no_index) as server:
        source |= {"location": f"{server.url}/m.safetensors"}
        settings = settings.model_copy(update={"hub_url": server.url})
        await adding.add_file(settings, described(tmp_path, source), quiet=True)
        with pytest.raises(FileListMissing, match=r"no model_index\.json"):
            await operations.download(settings, "m", "", quiet=True)


async def test_a_mirror_serves_what_was_pinned(
    settings: CliSettings, registry: ModelRegistryClient, tmp_path: Path
) -> None:
    source = {"kind": "hub", "location": "o/m", "revision": "c0ffee", "files": PINNED}
    await adding.add_file(settings, described(tmp_path, source), quiet=True)
    async with serving(dict(FILES)) as server:
        await operations.download(settings, "m", server.url, quiet=True)
    assert (await registry.state("m")).available


async def test_a_mirror_that_lists_nothing_is_refused(settings: CliSettings, tmp_path: Path) -> None:
    await adding.add_file(settings, described(tmp_path, {"kind": "hub", "location": "o/m"}), quiet=True)
    listed = json.dumps(DESCRIBED | {"digest": "0" * 64}).encode()
    async with serving({**FILES, DESCRIPTOR_NAME: listed}) as server:
        with pytest.raises(FileListMissing, match="lists no files"):
            await operations.download(settings, "m", server.url, quiet=True)


async def test_verified_removed_and_brought_back(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path, tmp_path: Path
) -> None:
    folder = await downloaded(settings, weights, tmp_path)
    await operations.verify(settings, "m", quiet=True)
    assert (await registry.state("m")).verified
    await operations.remove(settings, "m", keep_files=True)
    assert not (await registry.state("m")).available
    await adding.add_folder(settings, folder, quiet=True)
    assert (await registry.state("m")).available
    await operations.remove(settings, "m", keep_files=False)
    assert not folder.exists()
    with pytest.raises(UnknownModel, match="'m'"):
        await operations.remove(settings, "m", keep_files=False)


async def test_a_folder_that_says_itself_what_it_is_is_brought_to_where_a_runner_looks(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path
) -> None:
    (weights / DESCRIPTOR_NAME).write_text(json.dumps(DESCRIBED | {"digest": model_digest(weights)}))
    for said in ("is registered", "was already registered"):
        assert said in (await adding.add_folder(settings, weights, quiet=True))["said"]
    state = await registry.state("m")
    assert state.descriptor is not None
    assert state.descriptor.digest == model_digest(settings.models_dir / "m") == model_digest(weights)


def corrupt(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"x" * len(FILES[WEIGHTS]))


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(FILES[WEIGHTS][:-1])


def lose(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def swap(folder: Path) -> None:
    (folder / "unet/config.json").write_bytes(FILES["model_index.json"])
    (folder / "model_index.json").write_bytes(FILES["unet/config.json"])


def add_one(folder: Path) -> None:
    (folder / "unet" / "more.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (corrupt, f"{WEIGHTS}: has sha256 .* must have"),
        (cut, f"{WEIGHTS}: has {len(FILES[WEIGHTS]) - 1} bytes, but must have {len(FILES[WEIGHTS])}"),
        (lose, f"{WEIGHTS}: is missing"),
        (swap, "model_index.json: has the content of unet/config.json"),
        (add_one, "unet/more.json: does not belong"),
    ],
)
async def test_wrong_files_are_named_and_nothing_is_verified(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path, tmp_path: Path, harm: Any, message: str
) -> None:
    harm(await downloaded(settings, weights, tmp_path))
    with pytest.raises(ModelFilesWrong, match=message):
        await operations.verify(settings, "m", quiet=True)
    assert not (await registry.state("m")).verified


async def test_a_pickle_in_the_folder_is_refused(settings: CliSettings, weights: Path, tmp_path: Path) -> None:
    folder = await downloaded(settings, weights, tmp_path)
    (folder / "unet" / "weights.ckpt").write_bytes(b"\x80\x04")
    with pytest.raises(PickleRefused, match=r"unet/weights\.ckpt"):
        await operations.verify(settings, "m", quiet=True)


async def test_a_descriptor_file_that_is_wrong_says_where(settings: CliSettings, tmp_path: Path) -> None:
    source = {"kind": "hub", "location": "o/m"}
    with pytest.raises(UnknownFamily, match="known are"):
        await adding.add_file(settings, described(tmp_path, source, family="dall-e"), quiet=True)
    with pytest.raises(DescriptorInvalid, match=r"m\.yaml: licence"):
        await adding.add_file(settings, described(tmp_path, source, licence=""), quiet=True)
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(DescriptorInvalid, match="neither YAML nor JSON"):
        await adding.add_file(settings, tmp_path / "broken.yaml", quiet=True)
    with pytest.raises(DescriptorNotFound, match="No such file"):
        await adding.add_file(settings, tmp_path / "none.yaml", quiet=True)


async def test_show_knows_what_is_only_described(settings: CliSettings, tmp_path: Path) -> None:
    await adding.add_file(settings, described(tmp_path, {"kind": "hub", "location": "o/m"}), quiet=True)
    assert (await operations.show(settings, "m"))["status"] == "not registered"
    with pytest.raises(UnknownModel, match="known models: m"):
        await operations.show(settings, "n")


def copied(settings: CliSettings, weights: Path, name: str) -> Path:
    """The files of a model in a folder of the models folder, without a descriptor."""
    return Path(shutil.copytree(weights, settings.models_dir / name))


async def first_model(settings: CliSettings, weights: Path) -> Path:
    """A model `first` in the folder of that name."""
    folder = copied(settings, weights, "first")
    (folder / DESCRIPTOR_NAME).write_text(json.dumps(DESCRIBED | {"model_id": "first", "digest": model_digest(folder)}))
    await adding.add_folder(settings, folder, quiet=True)
    return folder


async def test_the_folder_of_a_model_never_becomes_that_of_another(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path, tmp_path: Path
) -> None:
    folder = await first_model(settings, weights)
    before = (folder / DESCRIPTOR_NAME).read_bytes()
    source = {"kind": "folder", "location": str(folder)}
    with pytest.raises(FolderTaken, match="is the folder of first"):
        await adding.add_file(settings, described(tmp_path, source, model_id="second"), quiet=True)
    assert (folder / DESCRIPTOR_NAME).read_bytes() == before
    assert not (await registry.state("second")).available
    (folder / DESCRIPTOR_NAME).write_text("{")
    with pytest.raises(FolderTaken, match="cannot be read"):
        await adding.add_file(settings, described(tmp_path, source, model_id="second"), quiet=True)
    assert (folder / DESCRIPTOR_NAME).read_text() == "{"


async def test_options_override_what_a_folder_says_of_itself(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path
) -> None:
    folder = await first_model(settings, weights)
    await adding.add_folder(settings, folder, AddOptions(title="Renamed", licence="CC0"), quiet=True)
    written = json.loads((folder / DESCRIPTOR_NAME).read_text())
    assert (written["title"], written["licence"]) == ("Renamed", "CC0")
    with pytest.raises(FolderTaken, match="is the folder of first"):
        await adding.add_folder(settings, folder, AddOptions(model_id="second"), quiet=True)
    elsewhere = folder.rename(settings.models_dir.parent / "elsewhere")
    await adding.add_folder(settings, elsewhere, AddOptions(model_id="second"), quiet=True)
    state = await registry.state("second")
    assert state.descriptor is not None
    assert state.descriptor.title == "Renamed"


async def test_a_download_that_fails_leaves_the_folder_that_was_there(
    settings: CliSettings, weights: Path, tmp_path: Path
) -> None:
    folder = (await downloaded(settings, weights, tmp_path)).rename(settings.models_dir / "of-another-name")
    (folder / "unet" / "config.json").unlink()
    (weights / "unet" / "config.json").write_text("changed")
    with pytest.raises(DownloadFailed):
        await operations.download(settings, "m", str(weights), quiet=True)
    assert (folder / WEIGHTS).is_file()


async def test_a_model_has_one_folder(settings: CliSettings, weights: Path, tmp_path: Path) -> None:
    folder = await first_model(settings, weights)
    again = Path(shutil.copytree(folder, settings.models_dir / "again"))
    with pytest.raises(FolderTaken, match="first is its folder"):
        await adding.add_folder(settings, again, quiet=True)


async def test_nothing_is_downloaded_into_a_folder_of_others(
    settings: CliSettings, weights: Path, tmp_path: Path
) -> None:
    source = {"kind": "folder", "location": "nowhere", "files": PINNED}
    await adding.add_file(settings, described(tmp_path, source), quiet=True)
    mine = settings.models_dir / "m" / "unet" / "config.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own")
    with pytest.raises(FolderTaken, match="no `models download` put there"):
        await operations.download(settings, "m", str(weights), quiet=True)
    shutil.rmtree(settings.models_dir / "m")
    (await first_model(settings, weights)).rename(settings.models_dir / "m")
    with pytest.raises(FolderTaken, match="is the folder of first"):
        await operations.download(settings, "m", str(weights), quiet=True)


async def test_a_folder_that_is_not_the_models_is_neither_verified_nor_deleted(
    settings: CliSettings, weights: Path, tmp_path: Path
) -> None:
    folder = await downloaded(settings, weights, tmp_path)
    descriptor = json.loads((folder / DESCRIPTOR_NAME).read_text())
    (folder / DESCRIPTOR_NAME).write_text(json.dumps(descriptor | {"model_id": "other"}))
    with pytest.raises(ModelNotDownloaded):
        await operations.verify(settings, "m", quiet=True)
    answer = await operations.remove(settings, "m", keep_files=False)
    assert f"{folder} is not proved to be its folder" in answer["said"]
    assert (folder / WEIGHTS).is_file()


async def test_an_id_with_other_files_is_replaced_only_when_told(
    settings: CliSettings, registry: ModelRegistryClient, weights: Path, tmp_path: Path
) -> None:
    await downloaded(settings, weights, tmp_path)
    shutil.rmtree(settings.models_dir / "m")
    other = Path(shutil.copytree(weights, tmp_path / "other"))
    (other / "README.md").write_text("another")
    (other / DESCRIPTOR_NAME).write_text(json.dumps(DESCRIBED | {"digest": model_digest(other)}))
    with pytest.raises(RegisteredWithOtherFiles, match="choose another id"):
        await adding.add_folder(settings, other, quiet=True)
    assert not (settings.models_dir / "m").exists()
    await adding.add_folder(settings, other, AddOptions(replace=True), quiet=True)
    descriptor = (await registry.state("m")).descriptor
    assert descriptor is not None
    assert descriptor.digest == model_digest(other)


async def test_an_interrupted_download_goes_on_in_its_folder_and_can_be_removed(
    settings: CliSettings, weights: Path, tmp_path: Path
) -> None:
    folder = await downloaded(settings, weights, tmp_path)
    (folder / DESCRIPTOR_NAME).unlink()
    (folder / WEIGHTS).unlink()
    await operations.download(settings, "m", str(weights), quiet=True)
    (folder / DESCRIPTOR_NAME).unlink()
    await operations.remove(settings, "m", keep_files=False)
    assert not folder.exists()
