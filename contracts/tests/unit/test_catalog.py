"""A descriptor file is read as it is meant, or refused with the file, the field and what would be right."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamforge.contracts.card_presets import GIGABYTE, has_card_presets, preset_for
from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS, VramProfile
from dreamforge.contracts.models.descriptor_file import (
    FAMILIES,
    CatalogEntry,
    DescriptorInvalid,
    UnknownFamily,
    parse_entry,
)
from dreamforge.contracts.models.family_defaults import FAMILY_DEFAULTS, preset_of, vram_of
from dreamforge.contracts.models.model_files import PickleRefused, is_pickle
from dreamforge.contracts.placement import Needs, tier_for

SHIPPED = sorted((Path(__file__).parents[3] / "models").glob("*.yaml"))
#: Sizes that graphics cards are sold in, from the smallest that these models are of any use on.
CARDS_GB = (8, 12, 16, 24, 48, 80)
PROFILE = {"resident_bytes": 1, "denoise_bytes_per_latent": 1, "decode_bytes_per_px": 1}
PRESET = {"name": "standard", "width_px": 64, "height_px": 64, "steps": 4, "guidance_scale": 1}
FILE = {"path": "unet/model.safetensors", "size_bytes": 3, "sha256": "a" * 64}


def described(**changes: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model_id": "m",
        "family": "stable-diffusion",
        "licence": "MIT",
        "vram": PROFILE,
        "presets": [PRESET],
        "source": {"kind": "folder", "location": "m"},
    }
    return values | changes


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_descriptor_is_right(file: Path) -> None:
    entry = parse_entry(yaml.safe_load(file.read_text()), file.name)
    assert entry.model_id == file.stem
    assert entry.describe("0" * 64).licence != "unknown"


@pytest.mark.parametrize("name", ["stable-diffusion-v1-5", "stable-diffusion-xl-base", "stable-diffusion-3-5-medium"])
def test_what_is_assumed_of_a_family_is_what_its_shipped_model_says(name: str) -> None:
    file = next(file for file in SHIPPED if file.stem == name)
    entry = parse_entry(yaml.safe_load(file.read_text()), file.name)
    known, preset = FAMILY_DEFAULTS[entry.family], preset_of(entry.family, 0, is_guidance_distilled=False)
    assert preset == entry.presets[0]
    assert entry.vram == vram_of(entry.family, entry.vram.resident_bytes if entry.vram else 0)
    assert (known.size_multiple_px, known.side_px_min) == (entry.size_multiple_px, entry.side_px_min)
    assert known.side_px_max == entry.side_px_max


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_preset_of_a_card_fits_into_it(file: Path) -> None:
    model = parse_entry(yaml.safe_load(file.read_text()), file.name).describe("0" * 64)
    for card_gb in CARDS_GB if has_card_presets(model) else ():
        preset = preset_for(model, card_gb * GIGABYTE)
        needs = Needs(model.model_id, preset.height_px, preset.width_px, frames=preset.frames or 1)
        tier = tier_for(needs, {model.model_id: model}, card_gb * GIGABYTE * 19 // 20)
        assert tier is not None, f"{preset.name} does not fit into {card_gb} GB, of which a display takes some"
        assert (preset.frames or 0) % FAMILY_PARAMETERS[model.family].frames_step == 1


@pytest.mark.parametrize("family", ["wan", "wan-i2v", "wan-ti2v", "ltx"])
def test_every_family_of_videos_has_a_descriptor_with_its_familys_memory(family: str) -> None:
    entries = [parse_entry(yaml.safe_load(file.read_text()), file.name) for file in SHIPPED]
    for entry in (of_family := [each for each in entries if each.family == family]):
        assert entry.vram == vram_of(family, entry.vram.resident_bytes if entry.vram else 0)
        assert {each.card_gb is not None for each in entry.presets} == {True}
    assert of_family


def test_a_file_that_leaves_its_files_open_is_not_pinned() -> None:
    assert not parse_entry(described(), "m.yaml").pinned
    assert parse_entry(described(source={"kind": "folder", "location": "m", "files": [FILE]}), "m.yaml").pinned


def test_a_description_has_every_field_of_the_descriptor() -> None:
    entry = parse_entry(described(title="M", side_px_max=128), "m.yaml")
    found = entry.describe("1" * 64)
    assert found.digest == "1" * 64
    read_from_files = {"digest", "text_encoder_layers", "second_transformer", "eight_bit_saved_bytes"}
    for name in type(found).model_fields.keys() - read_from_files:
        assert getattr(found, name) == getattr(entry, name), name
    assert type(found).model_fields.keys() - read_from_files <= CatalogEntry.model_fields.keys()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model_id": "a b"}, "model_id"),
        ({"licence": ""}, "licence"),
        ({"presets": []}, "file"),
        ({"colour": "red"}, "colour"),
        ({"vram": PROFILE | {"resident_bytes": -1}}, "vram.resident_bytes"),
        ({"presets": [PRESET | {"width_px": 60}]}, "presets.0.width_px"),
        ({"presets": [PRESET | {"card_gb": 8}, PRESET]}, "presets.1.card_gb"),
        ({"presets": [PRESET | {"card_gb": 24}, PRESET | {"card_gb": 8}]}, "presets"),
        ({"side_px_min": 256, "side_px_max": 128}, "side_px_max"),
        ({"source": {"kind": "torrent", "location": "m"}}, "source.kind"),
        ({"source": {"kind": "hub", "location": "m", "files": [FILE | {"path": "../x"}]}}, "source.files.0.path"),
        ({"source": {"kind": "hub", "location": "m", "files": [FILE | {"sha256": "x"}]}}, "source.files.0.sha256"),
        ({"source": {"kind": "hub", "location": "m", "files": [FILE, FILE]}}, "source.files"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(DescriptorInvalid) as refused:
        parse_entry(described(**changes), "m.yaml")
    assert field in [name for name, _ in refused.value.problems]
    assert f"m.yaml: {field}: " in str(refused.value)


def test_a_missing_field_is_said_to_be_missing() -> None:
    with pytest.raises(DescriptorInvalid, match=r"m\.yaml: licence: this field is required"):
        parse_entry({key: value for key, value in described().items() if key != "licence"}, "m.yaml")


def test_the_memory_may_be_left_to_the_files() -> None:
    entry = parse_entry({key: value for key, value in described().items() if key != "vram"}, "m.yaml")
    found = VramProfile(resident_bytes=7, denoise_bytes_per_latent=0, decode_bytes_per_px=0)
    assert entry.describe("0" * 64, vram=found).vram == found


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_a_file_of_something_else_is_refused(content: object) -> None:
    with pytest.raises(DescriptorInvalid, match="mapping"):
        parse_entry(content, "m.yaml")


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownFamily) as refused:
        parse_entry(described(family="dall-e"), "m.yaml")
    assert all(family in str(refused.value) for family in FAMILIES)


@pytest.mark.parametrize("name", ["x.bin", "unet/x.PT", "x.ckpt", "x.pkl", "x.pth"])
def test_a_pickle_is_refused_with_the_reason(name: str) -> None:
    files = [FILE | {"path": name}]
    with pytest.raises(PickleRefused, match="runs whatever code"):
        parse_entry(described(source={"kind": "folder", "location": "m", "files": files}), "m.yaml")
    assert is_pickle(name)
