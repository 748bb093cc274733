"""`models add` of what people have, without a descriptor: files, folders, repositories and URLs."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from dreamforge.cli.commands.scan_models import add_all
from dreamforge.cli.failure import CommandError
from dreamforge.cli.models import operations
from dreamforge.cli.models.add import add, add_file
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.models.errors import FolderTaken
from dreamforge.cli.models.library import DescriptorNotFound
from dreamforge.cli.models.registry import registry_client
from dreamforge.cli.models.scan import scan
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.descriptor_file import DescriptorInvalid
from dreamforge.contracts.models.model_files import PickleRefused
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME
from dreamforge.runtime.storage.upscaler_layout import CompactLayout
from dreamforge.runtime.testing.model_files import (
    CHECKPOINT,
    IP_ADAPTER,
    LORA,
    UNET,
    safetensors_bytes,
    weights_path,
    write_json,
    write_pipeline,
    write_safetensors,
)
from dreamforge.runtime.testing.streams import declare_streams

from .faulty_server import FaultyServer, serving


@pytest.fixture
async def settings(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliSettings:
    monkeypatch.chdir(tmp_path)
    await declare_streams(nats_url)
    # These models have whole files and no weights that a network could use.
    return CliSettings(nats_url=nats_url, runner_models_dir=tmp_path / "models", models_check="headers")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[FaultyServer]:
    """A hub with a pipeline `acme/tiny` in two variants, and a file elsewhere on it."""
    folder = write_pipeline(tmp_path / "served")
    for part in (UNET, "vae", "text_encoder"):
        shutil.copyfile(weights_path(folder, part), weights_path(folder, part, "fp16"))
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
    answer = json.dumps(
        {"id": "acme/tiny", "sha": "c0ffee", "siblings": siblings, "tags": ["license:apache-2.0"]}
    ).encode()
    served = {f"acme/tiny/resolve/c0ffee/{path}": content for path, content in files.items()}
    served["api/models/acme/tiny/revision/main"] = answer
    async with serving(served) as server:
        yield server


async def registered(settings: CliSettings, model_id: str) -> ModelDescriptor:
    """The model as the registry has it."""
    async with registry_client(settings) as registry:
        state = await registry.state(model_id)
    assert state.descriptor is not None
    assert state.available
    return state.descriptor


async def test_a_lora_needs_nothing_but_its_file(settings: CliSettings, tmp_path: Path) -> None:
    metadata = {"modelspec.title": "My style", "modelspec.license": "CC0"}
    path = write_safetensors(tmp_path / "my style_v2.safetensors", LORA, metadata=metadata)
    answer = await add(settings, str(path), AddOptions(), quiet=True)
    model = await registered(settings, "my-style_v2")
    assert (model.kind, model.family, model.title, model.licence) == ("lora", "stable-diffusion", "My style", "CC0")
    assert model.vram.resident_bytes == path.stat().st_size - len(_header(path))
    assert (settings.models_dir / "my-style_v2" / path.name).read_bytes() == path.read_bytes()
    assert answer["said"].startswith("my-style_v2 is registered: stable-diffusion lora, ")
    assert "was already registered" in (await add(settings, str(path), AddOptions(), quiet=True))["said"]


def _header(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: 8 + int.from_bytes(content[:8], "little")]


async def test_the_name_of_another_model_is_not_taken(settings: CliSettings, tmp_path: Path) -> None:
    await add(settings, str(write_safetensors(tmp_path / "a" / "style.safetensors", LORA)), AddOptions(), quiet=True)
    other = write_safetensors(tmp_path / "b" / "style.safetensors", LORA, "F32")
    with pytest.raises(FolderTaken, match="choose another id with --id"):
        await add(settings, str(other), AddOptions(), quiet=True)
    await add(settings, str(other), AddOptions(model_id="style-2"), quiet=True)
    assert (await registered(settings, "style")).digest != (await registered(settings, "style-2")).digest


async def test_a_family_that_the_files_do_not_tell_is_asked_for(settings: CliSettings, tmp_path: Path) -> None:
    layer = "lora_unet_mid_attn2_to_k"
    shapes = {f"{layer}.lora_down.weight": (4, 64), f"{layer}.lora_up.weight": (64, 4)}
    path = write_safetensors(tmp_path / "style.safetensors", shapes)
    with pytest.raises(CommandError, match="the family of style cannot be told") as asked:
        await add(settings, str(path), AddOptions(), quiet=True)
    assert "--family" in asked.value.hint
    await add(settings, str(path), AddOptions(family="stable-diffusion-xl", title="S", licence="MIT"), quiet=True)
    model = await registered(settings, "style")
    assert (model.family, model.title, model.licence) == ("stable-diffusion-xl", "S", "MIT")
    known = write_safetensors(tmp_path / "other.safetensors", LORA)
    with pytest.raises(ModelUnusable, match="family is flux, but the files are of stable-diffusion"):
        await add(settings, str(known), AddOptions(family="flux"), quiet=True)
    assert not (settings.models_dir / "other").exists()


@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
async def test_a_folder_is_brought_to_where_a_runner_looks(settings: CliSettings, tmp_path: Path, link: bool) -> None:
    given = write_pipeline(tmp_path / "My Model")
    (given / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Mine\n")
    (given / UNET / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")  # beside its safetensors: not read
    await add(settings, str(given), AddOptions(link=link), quiet=True)
    model = await registered(settings, "My-Model")
    assert model.licence == "apache-2.0"
    assert [preset.width_px for preset in model.presets] == [512]
    assert [tier.name for tier in model.tiers] == ["full", "offload"]
    weights = weights_path(settings.models_dir / "My-Model", UNET)
    assert weights.is_symlink() == link
    await operations.verify(settings, "My-Model", quiet=True)
    await operations.remove(settings, "My-Model", keep_files=False)
    assert not weights.exists()
    assert weights_path(given, UNET).is_file()


async def test_a_descriptor_that_does_not_fit_is_refused_by_the_name_of_the_folder_that_was_given(
    settings: CliSettings, tmp_path: Path
) -> None:
    write_pipeline(tmp_path / "given")
    preset = {"name": "p", "width_px": 512, "height_px": 512, "steps": 4, "guidance_scale": 1}
    values = {"model_id": "m", "family": "flux", "licence": "MIT", "presets": [preset]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(values | {"source": {"kind": "folder", "location": "given"}}))
    with pytest.raises(ModelUnusable, match=r"^given: family is flux, but the files are of stable-diffusion"):
        await add(settings, str(tmp_path / "m.yaml"), AddOptions(), quiet=True)
    assert not (settings.models_dir / "m").exists()


async def test_a_folder_of_the_models_folder_is_described_where_it_is(settings: CliSettings) -> None:
    given = write_pipeline(settings.models_dir / "mine")
    await add(settings, str(given), AddOptions(), quiet=True)
    assert ModelDescriptor.model_validate_json((given / DESCRIPTOR_NAME).read_bytes()) == await registered(
        settings, "mine"
    )


async def test_the_cache_of_a_hub_stands_for_its_revision(settings: CliSettings, tmp_path: Path) -> None:
    snapshot = write_pipeline(tmp_path / "models--acme--tiny" / "snapshots" / "c0ffee")
    await add(settings, str(snapshot.parent.parent), AddOptions(), quiet=True)
    assert (await registered(settings, "tiny")).family == "stable-diffusion"


async def test_a_checkpoint_gets_its_configurations_from_a_folder(settings: CliSettings, tmp_path: Path) -> None:
    configuration = write_pipeline(tmp_path / "configuration")
    path = write_safetensors(tmp_path / "my-checkpoint.safetensors", CHECKPOINT)
    await add(settings, str(path), AddOptions(configuration="configuration"), quiet=True)
    model = await registered(settings, "my-checkpoint")
    assert model.source is not None
    assert (model.source.kind, model.source.configuration) == ("single_file", str(configuration))
    weights = [file.path for file in model.source.files if file.path.endswith(".safetensors")]
    assert weights == ["my-checkpoint.safetensors"]
    await operations.verify(settings, "my-checkpoint", quiet=True)


async def test_a_checkpoint_in_a_folder_or_repository_of_its_own_is_that_file(
    settings: CliSettings, hub: FaultyServer, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"hub_url": hub.url})
    options = AddOptions(configuration=str(write_pipeline(tmp_path / "configuration")))
    write_safetensors(tmp_path / "Mine" / "v1.safetensors", CHECKPOINT)
    await add(settings, str(tmp_path / "Mine"), options, quiet=True)
    hub.files["acme/one/resolve/beef/v1.safetensors"] = content = safetensors_bytes(CHECKPOINT)
    about = {"id": "acme/one", "sha": "beef", "siblings": [{"rfilename": "v1.safetensors", "size": len(content)}]}
    hub.files["api/models/acme/one/revision/main"] = json.dumps(about).encode()
    await add(settings, "acme/one", options, quiet=True)
    assert (await registered(settings, "Mine")).digest == (await registered(settings, "one")).digest
    assert (await operations.show(settings, "one"))["problem"] == ""
    weights_path(settings.models_dir / "one", UNET).parent.joinpath("config.json").unlink()
    assert "unet has no config.json" in (await operations.show(settings, "one"))["problem"]


async def test_a_repository_is_read_before_its_weights_are_downloaded(settings: CliSettings, hub: FaultyServer) -> None:
    settings = settings.model_copy(update={"hub_url": hub.url})
    await add(settings, "acme/tiny", AddOptions(variant="fp16"), quiet=True)
    model = await registered(settings, "tiny")
    assert model.source is not None
    assert (model.licence, model.source.location, model.source.revision) == ("apache-2.0", "acme/tiny", "c0ffee")
    weights = {file.path for file in model.source.files if file.path.endswith(".safetensors")}
    assert weights == {weights_path(Path(), part, "fp16").as_posix() for part in (UNET, "vae", "text_encoder")}


async def test_a_repository_that_cannot_run_is_refused_by_its_headers(
    settings: CliSettings, hub: FaultyServer, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"hub_url": hub.url})
    eight = safetensors_bytes({"conv_in.weight": (8, 8, 3, 3), "large.weight": (1024, 1024)})
    hub.files[f"acme/tiny/resolve/c0ffee/{weights_path(Path(), UNET)}"] = eight
    with pytest.raises(ModelUnusable, match="acme/tiny: unet reads 8 channels"):
        await add(settings, f"{hub.url}/acme/tiny/tree/main", AddOptions(), quiet=True)
    assert not (settings.models_dir / "tiny").exists()


async def test_a_file_at_a_url_is_a_file(settings: CliSettings, hub: FaultyServer) -> None:
    settings = settings.model_copy(update={"hub_url": hub.url})
    hub.files["acme/tiny/resolve/main/style.safetensors"] = hub.files["d/style.safetensors"] = safetensors_bytes(LORA)
    for url, options in (
        (f"{hub.url}/acme/tiny/blob/main/style.safetensors", AddOptions()),
        (f"{hub.url}/d/style.safetensors?download=1", AddOptions(model_id="again")),
    ):
        await add(settings, url, options, quiet=True)
    assert (await registered(settings, "style")).digest == (await registered(settings, "again")).digest


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("m.ckpt", b"\x80\x02", PickleRefused, "m.ckpt is a pickle"),
        ("m.weights", b"PK\x03\x04", ModelUnusable, "is a pickle"),
        ("m.gguf", b"GGUF", ModelUnusable, "is a GGUF file"),
        ("m.safetensors", b"", ModelUnusable, "is not a safetensors file"),
        ("m.yaml", "model_id: café".encode("latin-1"), DescriptorInvalid, "is not UTF-8: byte 0xe9 at 13"),
    ],
)
async def test_what_is_no_model_is_named_for_what_it_is(
    settings: CliSettings, tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        await add(settings, str(tmp_path / name), AddOptions(), quiet=True)


async def test_what_is_not_there_is_said_to_be_nothing(settings: CliSettings) -> None:
    for given in ("nothing", "no/such.safetensors", "./nothing/here"):
        with pytest.raises(DescriptorNotFound, match="is neither a file, a folder, a repository"):
            await add(settings, given, AddOptions(), quiet=True)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
async def test_a_descriptor_may_have_a_byte_order_mark_and_leave_the_memory_open(
    settings: CliSettings, tmp_path: Path, suffix: str
) -> None:
    write_pipeline(tmp_path / "given")
    preset = {"name": "p", "width_px": 512, "height_px": 512, "steps": 4, "guidance_scale": 1}
    values = {"model_id": "m", "family": "stable-diffusion", "licence": "MIT", "presets": [preset]}
    values |= {"source": {"kind": "folder", "location": "given"}}
    text = json.dumps(values) if suffix == "json" else yaml.safe_dump(values).replace("\n", "\r\n")
    (tmp_path / f"m.{suffix}").write_bytes(b"\xef\xbb\xbf" + text.encode())
    await add_file(settings, tmp_path / f"m.{suffix}", quiet=True)
    assert (await registered(settings, "m")).vram.resident_bytes > 0


async def test_a_descriptor_cannot_promise_what_the_network_cannot_do(settings: CliSettings, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "given")
    write_safetensors(weights_path(folder, UNET), {"conv_in.weight": (8, 9, 3, 3)})
    write_json(folder / UNET / "config.json", {"in_channels": 9, "cross_attention_dim": 768, "sample_size": 64})
    await add(settings, str(folder), AddOptions(), quiet=True)
    model = await registered(settings, "given")
    assert (model.capabilities.modes, model.capabilities.controlnet) == (("inpaint",), False)
    descriptor = json.loads((settings.models_dir / "given" / DESCRIPTOR_NAME).read_text())
    descriptor["parameters"]["modes"] = ["text", "inpaint"]
    (settings.models_dir / "given" / DESCRIPTOR_NAME).write_text(json.dumps(descriptor))
    with pytest.raises(ModelUnusable, match=r"modes has text, but the network can do only inpaint"):
        await add(settings, str(settings.models_dir / "given"), AddOptions(), quiet=True)


async def test_a_registered_model_is_downloaded_again_from_its_source(settings: CliSettings, hub: FaultyServer) -> None:
    settings = settings.model_copy(update={"hub_url": hub.url})
    await add(settings, "acme/tiny", AddOptions(), quiet=True)
    shutil.rmtree(settings.models_dir / "tiny")
    await operations.download(settings, "tiny", "", quiet=True)
    await operations.verify(settings, "tiny", quiet=True)


async def test_what_a_scan_finds_is_registered_in_place(settings: CliSettings, tmp_path: Path) -> None:
    tree = tmp_path / "ComfyUI" / "models"
    lora = write_safetensors(tree / "loras" / "ink.safetensors", LORA)
    write_pipeline(tree / "diffusers" / "dream")
    write_safetensors(tree / "loras" / "unknown.safetensors", {"lora_unet_x.lora_down.weight": (4, 5)})
    (tree / "loras" / "old.pt").write_bytes(b"\x80\x02")
    found = list(scan(tree))
    results = await add_all(settings, found, AddOptions(link=True))
    said = {path.name: text.partition(":")[0] for path, text in results.items()}
    assert said == {"dream": "dream is registered", "ink.safetensors": "ink is registered"}
    here = settings.models_dir / "ink" / "ink.safetensors"
    assert here.is_symlink()
    assert here.resolve() == lora
    assert (await registered(settings, "ink")).kind == "lora"
    again = await add_all(settings, found, AddOptions(link=True))
    assert all("was already registered" in text for text in again.values())


async def test_an_upscaler_needs_nothing_but_its_file(settings: CliSettings, tmp_path: Path) -> None:
    shapes = CompactLayout(width=8, convolutions=2, scale=4, names={}).shapes()
    path = write_safetensors(tmp_path / "4x_tiny.safetensors", shapes)
    await add(settings, str(path), AddOptions(), quiet=True)
    model = await registered(settings, "4x_tiny")
    assert (model.kind, model.family, model.scale, model.capabilities.modes) == ("upscaler", "esrgan", 4, ("image",))
    assert model.vram.resident_bytes > 100_000_000, "the features of a tile are counted"


async def test_an_embedding_is_added_with_its_family_and_named_by_its_file(
    settings: CliSettings, tmp_path: Path
) -> None:
    path = write_safetensors(tmp_path / "EasyNegative.safetensors", {"clip_l": (2, 768), "clip_g": (2, 1280)})
    await add(settings, str(path), AddOptions(), quiet=True)
    model = await registered(settings, "EasyNegative")
    assert (model.kind, model.family) == ("embedding", "stable-diffusion-xl")


async def test_an_ip_adapter_is_added_with_its_image_encoder(settings: CliSettings, tmp_path: Path) -> None:
    folder = tmp_path / "plus"
    write_safetensors(folder / "ip-adapter-plus_sd15.safetensors", IP_ADAPTER)
    write_json(folder / "image_encoder" / "config.json", {"model_type": "clip_vision_model"})
    write_safetensors(folder / "image_encoder" / "model.safetensors", {"visual_projection.weight": (24, 16)})
    await add(settings, str(folder), AddOptions(), quiet=True)
    model = await registered(settings, "plus")
    assert (model.kind, model.family) == ("ip_adapter", "stable-diffusion")
    assert (settings.models_dir / "plus" / "image_encoder" / "model.safetensors").is_file()
