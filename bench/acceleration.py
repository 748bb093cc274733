"""What each way of going faster gives, against stock diffusers in the same run, and what it costs in pixels.

Each option has a pipeline of its own, fresh from its folder, one run to warm up (where a compiler works, which is said
apart) and several that count; stock diffusers is measured anew right before each, so that both see the same machine. Of
the image the peak signal-to-noise ratio to the stock one is printed: "equal" is number for number.

Usage: python -m bench.acceleration [--model models/forge-shapes] [--rounds 5] [--steps 20] [--side 0] [--dtype auto]
"""

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

from bench.timing import clock

PROMPT = "a large red circle on a blue background"
SEED = 7
#: Thresholds of the step cache: diffusers' own default, and one that is faster.
THRESHOLDS = (0.05, 0.12)
NETWORKS = ("transformer", "unet")


@dataclass(frozen=True)
class Measured:
    """Seconds of the first run and of those that count, and the image: (height, width, 3) floats in [0, 1]."""

    first_seconds: float
    seconds: float
    image: Any  # Any: torch is imported late


def network_of(pipeline: Any) -> Any:  # Any: diffusers has no types
    """The part that takes the time."""
    return next(found for name in NETWORKS if (found := getattr(pipeline, name, None)) is not None)


def channels_last(pipeline: Any) -> None:
    """Convolutions in the layout that tensor cores read."""
    import torch

    for part in (network_of(pipeline), pipeline.vae):
        part.to(memory_format=torch.channels_last)


def fused_projections(pipeline: Any) -> None:
    """Query, key and value in one product."""
    network_of(pipeline).fuse_qkv_projections()


def compiled(pipeline: Any) -> None:
    """The blocks that repeat, each compiled once."""
    network_of(pipeline).compile_repeated_blocks(fullgraph=True)


def step_cache(threshold: float) -> Callable[[Any], None]:
    """Lossy: see `step_cache` of requests."""

    def apply(pipeline: Any) -> None:
        import diffusers

        made: Any = diffusers.FirstBlockCacheConfig
        network_of(pipeline).enable_cache(made(threshold=threshold))

    return apply


def int8_weights(pipeline: Any) -> None:
    """Lossy: weights of eight bits by torchao, where it is installed."""
    torchao = import_module("torchao.quantization")
    torchao.quantize_(network_of(pipeline), torchao.Int8WeightOnlyConfig())


OPTIONS: dict[str, Callable[[Any], None]] = {
    "channels last": channels_last,
    "fused projections": fused_projections,
    "compiled blocks": compiled,
    **{f"step cache {threshold:g} (lossy)": step_cache(threshold) for threshold in THRESHOLDS},
    "int8 weights (lossy)": int8_weights,
}


def measure(options: argparse.Namespace, apply: Callable[[Any], None] | None) -> Measured:
    """A fresh pipeline with one option. Errors: whatever the option raises."""
    import diffusers
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"auto": torch.bfloat16 if device == "cuda" else torch.float32}.get(options.dtype) or getattr(
        torch, options.dtype
    )
    read: Any = diffusers.DiffusionPipeline.from_pretrained  # Any: it has no types
    pipeline = read(options.model, dtype=dtype, local_files_only=True)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    if apply is not None:
        apply(pipeline)
    size = {"width": options.side, "height": options.side} if options.side else {}

    def run() -> tuple[float, Any]:
        began = clock()
        with torch.no_grad():
            generator = torch.Generator("cpu").manual_seed(SEED)
            made = pipeline(PROMPT, num_inference_steps=options.steps, generator=generator, output_type="pt", **size)
        images = made.images if hasattr(made, "images") else made.frames[0]
        return clock() - began, images[0].float().cpu()

    first_seconds, _ = run()
    runs = [run() for _ in range(options.rounds)]
    return Measured(first_seconds, median(seconds for seconds, _ in runs), runs[-1][1])


def psnr_db(image: Any, exact: Any) -> float:
    """Peak signal-to-noise ratio; infinite where they are equal."""
    error = float(((image - exact) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def line(name: str, found: Measured, stock: Measured) -> str:
    """One option as a row."""
    noise = psnr_db(found.image, stock.image)
    likeness = "equal" if math.isinf(noise) else f"{noise:.1f} dB"
    share = found.seconds / stock.seconds
    seconds = f"{stock.seconds:8.3f} s {found.seconds:8.3f} s"
    return f"{name:26} {seconds} {share:6.2f} x {found.first_seconds:9.1f} s   {likeness}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="models/forge-shapes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=0, help="of the image in pixels; 0: the model's own")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # before torch, as in the runner
    measure(options, None)  # what the libraries do once
    print(f"{'':26} {'stock':>10} {'with it':>10} {'share':>8} {'first run':>11}   image against stock")
    for name, apply in OPTIONS.items():
        try:
            stock = measure(options, None)
            print(line(name, measure(options, apply), stock), flush=True)
        except Exception as error:  # whatever a library says: the others are measured all the same
            said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
            print(f"{name:26} does not apply: {said[:90]}", flush=True)


if __name__ == "__main__":
    main()
