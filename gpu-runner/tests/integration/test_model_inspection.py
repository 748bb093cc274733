"""What is read from headers is what diffusers writes and loads, family by family."""

from pathlib import Path

import pytest

from dreamforge.runtime.storage.descriptor_fit import fitted
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_pipeline_is_read_as_what_it_is(cache: Path, family: str) -> None:
    from runner_testkit.families import ensure_family, family_descriptor

    facts = inspect_model(folder := ensure_family(cache, family))
    descriptor = family_descriptor(family, "0" * 64)
    assert (facts.kind, facts.family, facts.variant) == ("pipeline", descriptor.family, None)
    assert facts.modes == ("text", "image", "inpaint")
    assert fitted(descriptor, facts) == descriptor
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert on_disk - {"dreamforge.json"} == set(facts.files)


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "sd3", "flux"])
def test_a_tiny_lora_is_read_as_a_lora(cache: Path, family: str) -> None:
    from runner_testkit.assets import ensure_lora
    from runner_testkit.families import DESCRIPTOR_FAMILIES

    facts = inspect_model(ensure_lora(cache, family))
    # The tiny U-Nets read text of a width that no released model has: it does not tell the family.
    expected = None if family in ("stable-diffusion", "sdxl") else DESCRIPTOR_FAMILIES.get(family, family)
    assert (facts.kind, facts.family) == ("lora", expected)


def test_a_tiny_controlnet_is_read_as_a_controlnet(cache: Path) -> None:
    from runner_testkit.assets import ensure_controlnet

    assert inspect_model(ensure_controlnet(cache, "sdxl")).kind == "controlnet"


def test_shards_as_the_libraries_write_them_are_found(cache: Path, tmp_path: Path) -> None:
    import torch
    from runner_testkit.families import build_family, ensure_family

    pipeline = build_family("stable-diffusion")
    pipeline.to(torch.float16)  # type: ignore[arg-type]  # a precision is taken as well as a device
    pipeline.save_pretrained(str(tmp_path), variant="fp16", safe_serialization=True)  # type: ignore[call-arg]
    for part, size in (("unet", "600KB"), ("text_encoder", "100KB")):
        for path in (tmp_path / part).glob("*.safetensors"):
            path.unlink()
        pipeline.components[part].save_pretrained(  # type: ignore[attr-defined]
            str(tmp_path / part), variant="fp16", max_shard_size=size, safe_serialization=True
        )
    facts = inspect_model(tmp_path)
    assert facts.variant == "fp16"
    assert sum("-of-" in name and name.endswith(".safetensors") for name in facts.files) >= 4
    assert facts.size.floats == inspect_model(ensure_family(cache, "stable-diffusion")).size.floats
