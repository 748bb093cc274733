"""What rendering together saves where a run starts from an image or has a second pass: eight images alone and in a run.

Forge Shapes by the renderer alone, one CPU thread, processor time, both ways in turns.

Usage: python -m bench.batched_ways [--rounds 5] [--images 8]
"""

import argparse
import hashlib
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.plain_diffusers import GUIDANCE, PROMPT, SIDE_PX, STEPS
from bench.runner import MODEL_ID, models_in
from PIL import Image

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles, RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
from dreamforge.gpu_runner.rendering.renderer import ModelKey

NO_DIGEST = "0" * 64
WAYS: dict[str, dict[str, Any]] = {  # Any: parameters of a request
    "text": {},
    "image": {"init_image": NO_DIGEST, "strength": 0.6},
    "second pass": {"upscale": Upscale(width_px=2 * SIDE_PX, height_px=2 * SIDE_PX, strength=0.5)},
}


def tasks(model: Path, picture: Path, way: dict[str, Any], images: int) -> list[RenderTask]:
    """As many tasks of one image, each with a seed of its own."""
    sha256 = hashlib.sha256(picture.read_bytes()).hexdigest()
    own = way | ({"init_image": sha256} if "init_image" in way else {})
    size = {"width_px": SIDE_PX, "height_px": SIDE_PX, "steps": STEPS, "guidance_scale": GUIDANCE}
    named = {"model_id": MODEL_ID, "preset": "standard", "prompt": PROMPT}
    return [
        RenderTask(
            task_id=str(seed),
            request=RenderRequest(seed=seed, **named, **size, **own),
            model=ModelFiles(path=str(model), digest=NO_DIGEST),
            inputs={sha256: InputImage(path=str(picture), sha256=sha256)},
        )
        for seed in range(images)
    ]


def alone_and_together(renderer: DiffusersRenderer, made: list[RenderTask]) -> tuple[float, float]:
    """Seconds of the processor for all, one by one and in one run."""
    began = renderer.work_seconds()
    for task in made:
        renderer.render(task, task.request.seed, lambda *_: None)
    between = renderer.work_seconds()
    renderer.render_together([TaskImage(task, 0) for task in made], lambda *_: None)
    return between - began, renderer.work_seconds() - between


def main(rounds: int, images: int) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model = models_in(folder / "models") / MODEL_ID
        picture = folder / "start.png"
        Image.new("RGB", (SIDE_PX, SIDE_PX), (200, 40, 40)).save(picture)
        renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1)
        renderer.load(ModelKey.of_task(tasks(model, picture, {}, 1)[0]))
        for name, way in WAYS.items():
            made = tasks(model, picture, way, images)
            alone_and_together(renderer, made[:2])
            measured = [alone_and_together(renderer, made) for _ in range(rounds)]
            ratios = [alone / together for alone, together in measured]
            alone, together = (median(each) for each in zip(*measured, strict=True))
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{name:12} alone {alone:6.3f} s  together {together:6.3f} s  {median(ratios):.2f} ({spread})",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.images)
