"""What is read from headers is what diffusers writes and loads, family by family."""

from pathlib import Path

import pytest

from dreamforge.runtime.storage.descriptor_fit import fitted
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")


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


def test_an_inpainting_network_renders_into_a_mask_and_is_offered_for_nothing_else(cache: Path, tmp_path: Path) -> None:
    from PIL import Image
    from runner_testkit.tasks import render_task

    from dreamforge.gpu_runner.protocol.render_task import InputImage
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.pipeline import part
    from dreamforge.gpu_runner.rendering.renderer import ModelKey
    from dreamforge.gpu_runner.rendering.tiny_model import (
        autoencoder,
        clip_text_encoder,
        clip_tokenizer,
        ddim_scheduler,
        tiny_descriptor,
        unet,
    )

    pipeline = part(
        "StableDiffusionInpaintPipeline",
        vae=autoencoder(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=unet(in_channels=9),
        scheduler=ddim_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(tmp_path / "nine"), safe_serialization=True)
    offered = fitted(tiny_descriptor("0" * 64), inspect_model(tmp_path / "nine")).capabilities
    assert (offered.modes, offered.upscale_max, offered.controlnet) == (("inpaint",), 1.0, False)
    images = {}
    for name, colour in (("init_image", (200, 30, 30)), ("mask_image", (255, 255, 255))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
        images[name] = InputImage(
            path=str(tmp_path / f"{name}.png"), sha256=("1" if name == "init_image" else "2") * 64
        )
    task = render_task(model_path=str(tmp_path / "nine"), steps=2, strength=1.0, **images)
    renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1)
    renderer.load(ModelKey.of_task(task))
    assert len(renderer.render(task, 1, lambda step, of, preview: None).scanlines) > 64 * 64 * 3
