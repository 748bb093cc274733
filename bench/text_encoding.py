"""How long the device waits for texts: kept and encoded ahead (decision 0092), beside encoding each when it is needed.

Renders jobs of one image with two renderers in turns, in this process and on one CPU thread: one with the feature
`EncodedTexts`, one without. *New*: every job has a prompt of its own, and the next is known while one renders. *Same*:
all have one prompt. Idle is the share of the time in which the thread that renders encodes texts or waits for them.
With `--encoder-layers` the text encoder of the model is that many times as deep, as those of large models are beside a
step: Forge Shapes has one of 0.6 M parameters beside a denoiser of 7 M.

Usage: python -m bench.text_encoding [--jobs 24] [--steps 4] [--encoder-layers 1]
"""

import argparse
import functools
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.runner import MODEL_ID, models_in
from bench.timing import clock

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
from dreamforge.gpu_runner.rendering.feature_list import standard_features
from dreamforge.gpu_runner.rendering.features.encoded_texts import EncodedTexts
from dreamforge.gpu_runner.rendering.hooks import RenderFeature
from dreamforge.gpu_runner.rendering.renderer import ModelKey

ROUNDS, SIDE_PX = 5, 64
WORDS = ("red", "green", "blue", "white", "black", "yellow"), ("circle", "square", "star", "ring", "cross", "heart")


def without(device: torch.device) -> Sequence[RenderFeature]:
    """The features of a renderer that encodes each text when it is needed."""
    return [each for each in standard_features(device) if not isinstance(each, EncodedTexts)]


@dataclass
class Contender:
    """A renderer, and what was measured of it: (seconds a job, idle share) of each round, by load."""

    name: str
    renderer: DiffusersRenderer
    found: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def measure(self, load: str, tasks: Sequence[RenderTask]) -> list[bytes]:
        """Render tasks one after the other; their pixels."""
        self.renderer._features.release()
        pixels = []
        with encoding(self.renderer._pipelines.get(ModelKey.of_task(tasks[0]))) as spent:
            began = clock()
            for task, following in pairwise((*tasks, tasks[-1])):
                told = self._told(following)
                pixels.append(self.renderer.render(task, task.request.seed, told).scanlines)
            seconds = clock() - began
        self.found.setdefault(load, []).append((seconds / len(tasks), sum(spent) / seconds))
        return pixels

    def _told(self, following: RenderTask) -> Any:  # Any: a callback of a protocol
        return lambda *_: self.renderer.encode_ahead(following)


@contextmanager
def encoding(pipeline: Any) -> Iterator[list[float]]:  # Any: a class of each family
    """The seconds that the thread which renders spends in the text encoder, tokens included, and waits for another."""
    spent = list[float]()
    with timed(type(pipeline), "encode_prompt", spent), timed(EncodedTexts, "_take_ahead", spent):
        yield spent


@contextmanager
def timed(owner: type, name: str, spent: list[float]) -> Iterator[None]:
    """Note how long each call of a method takes in this thread."""
    own, here = getattr(owner, name), threading.get_ident()

    @functools.wraps(own)  # with its signature
    def call(*arguments: Any, **keywords: Any) -> Any:  # Any: as the method has it
        began = clock()
        try:
            return own(*arguments, **keywords)
        finally:
            if threading.get_ident() == here:
                spent.append(clock() - began)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, own)


def deepen(pipeline: Any, times: int) -> None:  # Any: as above
    """Repeat the layers of the text encoder: more work with the same weights."""
    encoder = pipeline.text_encoder
    holder = getattr(encoder, "text_model", encoder).encoder
    holder.layers = torch.nn.ModuleList(list(holder.layers) * times)


def main(arguments: argparse.Namespace) -> None:
    """Everything in one run, in turns."""
    with tempfile.TemporaryDirectory() as text:
        path = models_in(Path(text)) / MODEL_ID
        request = RenderRequest(
            model_id=MODEL_ID, preset="p", prompt="-", width_px=SIDE_PX, height_px=SIDE_PX, steps=arguments.steps,
            guidance_scale=3.0, seed=0,
        )  # fmt: skip
        task = RenderTask(task_id="t", request=request, model=ModelFiles(path=str(path), digest="0" * 64))
        contenders = []
        for name, features in (("here", standard_features), ("each when needed", without)):
            renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)
            renderer.load(ModelKey.of_task(task))
            deepen(renderer._pipelines.get(ModelKey.of_task(task)), arguments.encoder_layers)
            contenders.append(Contender(name, renderer))
        for round_ in range(ROUNDS):
            for load in ("new", "same"):
                texts = [prompt(round_, number if load == "new" else 0) for number in range(arguments.jobs)]
                requests = [
                    task.request.model_copy(update={"prompt": each, "seed": seed}) for seed, each in enumerate(texts)
                ]
                tasks = [task.model_copy(update={"request": each}) for each in requests]
                turns = contenders[:: -1 if round_ % 2 else 1]
                first, second = [contender.measure(load, tasks) for contender in turns]
                assert first == second, "the same pixels, to the byte"
        for load in ("new", "same"):
            for contender in contenders:
                seconds, idle = (median(values) for values in zip(*contender.found[load], strict=True))
                print(f"{load:5} {contender.name:18} {1000 * seconds:8.1f} ms a job   idle {idle:6.2%}", flush=True)


def prompt(round_: int, number: int) -> str:
    """One of many, new in each round."""
    colours, shapes = WORDS
    shape, ground = shapes[(number // 6 + round_) % 6], colours[(number + round_ + 1) % 6]
    return f"{number} {colours[number % 6]} {shape} on {ground}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--encoder-layers", type=int, default=1)
    main(parser.parse_args())
