"""The same recipe gives the same pixels: from process to process, and from release to release where it was recorded.

    FORGE_TEST_RECORD_GOLDEN=1 pytest gpu-runner/tests/integration/test_golden.py

writes this machine's hashes into golden.json. A class of machines that is not in there is compared with itself only.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pil
from runner_testkit.child import Talk, talking

from dreamforge.gpu_runner.machine.device import CPUINFO
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import Image, Ready
from dreamforge.gpu_runner.protocol.recipe import Engine
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.runtime.storage.model_folder import model_digest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("child"),
]
MakeTask = Callable[..., RenderTask]
GOLDEN = Path(__file__).with_name("golden.json")
VECTORS = ("avx", "amx", "fma")
SHAPES = Path(__file__).parents[3] / "models" / "forge-shapes"


def tasks(make: MakeTask) -> dict[str, RenderTask]:
    """What is painted, by the model's content and a prompt: other weights are another picture."""
    shapes = {
        "model_id": "forge-shapes",
        "model_path": str(SHAPES),
        "model_digest": model_digest(SHAPES),
        "steps": 8,
        "guidance_scale": 3.0,
    }
    made = {
        "a red fox": make(prompt="a red fox", seeds=(7,)),
        "a very long prompt": make(prompt="a red fox under a paper moon, " * 12, seeds=(8,)),
        "a small red star": make(**shapes, prompt="a small red star on a blue background", seeds=(7,)),
        "mountains": make(**shapes, prompt="mountains at sunset", negative_prompt="night", seeds=(8,)),
    }
    return {f"{task.request.model_id}@{task.model.digest[:8]}: {name}": task for name, task in made.items()}


def class_of(engine: Engine) -> dict[str, str | int]:
    """What decides pixels besides the recipe: the kernels, their order of additions and their precision."""
    return {
        "renderer": engine.renderer,
        "device": engine.device,
        "device_name": engine.device_name,
        "dtype": engine.dtype,
        "threads": engine.threads,
        "torch": engine.versions["torch"],
        # "": MKL chose its kernels by alignment, as it did before children were given a mode.
        "mkl_cbwr": engine.versions.get("mkl_cbwr", ""),
        # Kernels are chosen by more extensions than the one that a recipe names.
        "vectors": vectors() if engine.device == "cpu" else "",
    }


def vectors() -> str:
    """The vector extensions that the CPU says it has."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return " ".join(sorted(flag for flag in flags if flag.startswith(VECTORS)))


def pixel_hash(image: Image) -> str:
    """Of the pixels alone: the file's recipe names versions that need not change a picture."""
    with Pil.open(io.BytesIO(image.body)) as decoded:
        return hashlib.sha256(f"{decoded.mode}{decoded.size}".encode() + decoded.tobytes()).hexdigest()


async def painted(talk: Talk, make: MakeTask) -> tuple[dict[str, str | int], dict[str, str], list[bytes]]:
    """From one child: its class, the hash of every picture's pixels, and the files."""
    images = {name: await _one(talk, task) for name, task in tasks(make).items()}
    engine = (await talk.until(Ready)).engine
    hashes = {name: pixel_hash(image) for name, image in images.items()}
    return class_of(engine), hashes, [image.body for image in images.values()]


async def _one(talk: Talk, task: RenderTask) -> Image:
    (image,) = await talk.images(task)
    return image


async def check(one: Talk, another: Talk, make: MakeTask) -> None:
    this_class, hashes, files = await painted(one, make)
    _, _, again = await painted(another, make)
    assert files == again, "two processes, the same bytes"
    recorded = json.loads(GOLDEN.read_text())
    known = [entry for entry in recorded if entry["class"] == this_class]
    if os.environ.get("FORGE_TEST_RECORD_GOLDEN"):
        rest = [entry for entry in recorded if entry not in known]
        GOLDEN.write_text(json.dumps([*rest, {"class": this_class, "pixels": hashes}], indent=2) + "\n")
    elif known:
        before = {name: value for name, value in known[0]["pixels"].items() if name in hashes}
        assert before, "no picture of this class is recorded with these weights: record them"
        assert {name: hashes[name] for name in before} == before, "the pictures of an earlier release"


async def test_the_same_recipe_gives_the_same_pixels_on_a_cpu(talk: Talk, tiny_task: MakeTask) -> None:
    async with talking(ChildOptions(device="cpu", dtype="float32")) as another:
        await check(another, talk, tiny_task)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_the_same_recipe_gives_the_same_pixels_on_a_gpu(tiny_task: MakeTask, torch_gpu: None, dtype: str) -> None:
    options = ChildOptions(device="cuda", dtype=dtype)
    async with talking(options) as one, talking(options) as another:
        await check(one, another, tiny_task)
