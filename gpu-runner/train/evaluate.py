"""Asks a model folder for captions it never saw, reads the pictures back, and writes the report and a sample grid.

    python gpu-runner/train/evaluate.py models/forge-shapes --report docs/measurements/forge-shapes

It loads the folder as anyone would, through `DiffusionPipeline.from_pretrained`: what is scored is what ships.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from draw import Picture, draw
from grammar import Caption, Mix
from judge import judge
from layout import arrange
from PIL import Image
from scoring import Score, held_out_captions

from dreamforge.gpu_runner.rendering.pipeline import Pipeline, read_pipeline
from dreamforge.runtime.clock import monotonic_seconds
from dreamforge.runtime.storage.model_folder import folder_bytes

#: Pictures painted at once while scoring.
BATCH = 25
#: Kinds of caption, each scored by itself; all but scenes are held out.
KINDS = {
    "one thing": Mix(several=0, pair=0, scene=0),
    "several of a kind": Mix(one=0, pair=0, scene=0),
    "two things": Mix(one=0, several=0, scene=0),
    "scenes": Mix(one=0, several=0, pair=0),
}
#: The grid of the report, as people would type it, whether training drew it or not; the scores ask held-out ones.
SHOWN = (
    "a red circle on a white background",
    "a large blue star on a yellow background",
    "a small green heart in the top left on a black background",
    "an orange ring on the right on a blue background",
    "a large pink diamond on a purple background",
    "a white cross at the bottom on a red background",
    "a yellow triangle in the middle on a cyan background",
    "a purple square in the bottom right on a white background",
    "two red hearts on a white background",
    "three yellow stars on a blue background",
    "four green squares on a black background",
    "three pink rings on a cyan background",
    "a red circle left of a blue square on a white background",
    "a yellow star above a green triangle on a black background",
    "a pink heart right of a white cross on a purple background",
    "an orange diamond below a cyan ring on a blue background",
    "the sun over the sea",
    "the sun over the sea at sunset",
    "mountains",
    "mountains at sunset",
    "the moon and stars",
    "a red house and a tree",
    "a yellow house and a tree at night",
    "a fluffy dragon",
)
COLUMNS, ZOOM = 8, 2


@dataclass(frozen=True, slots=True)
class Way:
    """How to paint."""

    steps: int
    guidance: float


def paint(pipeline: Pipeline, texts: Sequence[str], way: Way, seed: int) -> list[Picture]:
    """One picture a text, each from its own seed, so that a text's picture does not depend on its neighbours."""
    pictures: list[Picture] = []
    for start in range(0, len(texts), BATCH):
        some = list(texts[start : start + BATCH])
        chance = [torch.Generator().manual_seed(seed + start + number) for number in range(len(some))]
        painted = pipeline(
            prompt=some,
            num_inference_steps=way.steps,
            guidance_scale=way.guidance,
            generator=chance,
            output_type="np",
        ).images
        pictures += list((painted * 255).round().astype(np.uint8))
    return pictures


def score_kind(pipeline: Pipeline, mix: Mix, count: int, way: Way, seed: int) -> Score:
    """The score of `count` captions of one kind."""
    return _score(captions := held_out_captions(count, seed, mix), paint(pipeline, _texts(captions), way, seed))


def score_truth(mix: Mix, count: int, seed: int) -> Score:
    """The score of the true drawings: what the judge itself gets wrong."""
    rng = np.random.default_rng(seed)
    captions = held_out_captions(count, seed, mix)
    return _score(captions, [draw(arrange(caption, rng)) for caption in captions])


def seconds_an_image(pipeline: Pipeline, way: Way) -> float:
    """Median of five single pictures, after one that warms up."""
    spent = []
    for seed in range(6):
        begun = monotonic_seconds()
        paint(pipeline, SHOWN[seed : seed + 1], way, seed)
        spent.append(monotonic_seconds() - begun)
    return float(np.median(spent[1:]))


def grid(pictures: Sequence[Picture]) -> Image.Image:
    """Pictures in rows of eight, left to right, twice their size with hard pixels and a white seam."""
    padded: list[npt.NDArray[np.uint8]] = [np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255) for p in pictures]
    rows = [np.concatenate(padded[i : i + COLUMNS], axis=1) for i in range(0, len(padded), COLUMNS)]
    whole = Image.fromarray(np.concatenate(rows, axis=0))
    return whole.resize((whole.width * ZOOM, whole.height * ZOOM), Image.Resampling.NEAREST)


def report(scores: dict[str, Score], truth: Score, folder: Path, way: Way, seconds: float, threads: int) -> str:
    """The report as Markdown."""
    total = Score()
    for score in scores.values():
        total.right += score.right
        total.asked += score.asked
    kinds = "\n".join(f"| {kind} | {score.share:.1%} | {score.line()} |" for kind, score in scores.items())
    shown = "\n".join(f"{number}. {text}" for number, text in enumerate(SHOWN, 1))
    return f"""# Forge Shapes: does it paint what it is asked for?

Written by `gpu-runner/train/evaluate.py`. Captions come from the grammar's held-out tenth, which training never
drew (scenes are too few to hold out, and are scored apart); colour, shape, place, size, count, relation and
background are read back from the pixels by `judge.py`. The true drawings of the same captions score
{truth.share:.1%}: that is the judge's own error.

{total.table()}

| kind of caption | right | by attribute |
|---|---|---|
{kinds}

- {way.steps} steps, guidance {way.guidance:g}, 64 x 64 pixels, {threads} thread(s): **{seconds:.2f} s an image**.
- The folder has {folder_bytes(folder) / 1e6:.1f} MB.

![samples](forge-shapes.png)

In rows of eight, seeds 0 to {len(SHOWN) - 1}, not selected:

{shown}
"""


def _score(captions: Sequence[Caption], pictures: Sequence[Picture]) -> Score:
    score = Score()
    for caption, picture in zip(captions, pictures, strict=True):
        score.add(judge(caption, picture))
    return score


def _texts(captions: Sequence[Caption]) -> list[str]:
    return [caption.text() for caption in captions]


def main() -> int:
    """Score, and write the report if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", type=Path, help="write this .md and .png")
    parser.add_argument("--captions", type=int, default=100, help="of each kind")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    way = Way(given.steps, given.guidance)
    pipeline = read_pipeline(given.folder, dtype=torch.float32).pipeline
    pipeline.set_progress_bar_config(disable=True)
    scores = {kind: score_kind(pipeline, mix, given.captions, way, given.seed) for kind, mix in KINDS.items()}
    for kind, score in scores.items():
        sys.stdout.write(f"{kind}: {score.line()}\n")
    if given.report:
        seconds = seconds_an_image(pipeline, way)
        truth = score_truth(Mix(), 4 * given.captions, given.seed)
        text = report(scores, truth, given.folder, way, seconds, given.threads)
        given.report.with_suffix(".md").write_text(text)
        grid(paint(pipeline, SHOWN, way, 0)).save(given.report.with_suffix(".png"), optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
