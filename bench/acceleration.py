"""What each way of going faster gives, against stock diffusers in the same run, and what it costs in pixels.

Each option has a pipeline of its own, fresh from its folder, one run to warm up (where a compiler works, which is said
apart) and several that count; stock diffusers is measured anew right before each, so that both see the same machine.
Optimisations are put on by the code that a runner puts them on with. Of the image the peak signal-to-noise ratio to the
stock one is printed: "equal" is number for number.

Usage: python -m bench.acceleration [--model models/forge-shapes] [--rounds 5] [--steps 20] [--side 0] [--dtype auto]
                                    [--vae FOLDER]
"""

import argparse
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from bench.timing import clock

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask

PROMPT = "a large red circle on a blue background"
SEED = 7
#: Thresholds of the step cache: diffusers' own default, and one that is faster.
THRESHOLDS = (0.05, 0.12)
#: Of two LoRAs that are swapped, and how large the random numbers in them are.
LORA_RANKS, LORA_NOISE = (16, 8), 0.02
#: Measured against stock diffusers with the same LoRA; its first run is the one after the swap.
SWAPPED = "compiled, LoRA swapped"

Apply = Callable[[Any], None]  # Any: diffusers' pipelines have no types


@dataclass(frozen=True)
class Measured:
    """Seconds of the first run and of those that count, and the image: (height, width, 3) floats in [0, 1]."""

    first_seconds: float
    seconds: float
    image: Any  # Any: torch is imported late


def network_of(pipeline: Any) -> Any:  # Any: see `Apply`
    """The part that takes the time."""
    from dreamforge.gpu_runner.rendering.optimisations import denoisers_of

    return denoisers_of(pipeline)[0]


def optimisation(name: str, pipeline: Any) -> None:
    """As the runner does it. Errors: ValueError where this pipeline cannot have it."""
    from dreamforge.gpu_runner.rendering.optimisations import KNOWN

    if why := KNOWN[name].refusal(pipeline, plain_task()):
        raise ValueError(why)
    KNOWN[name].apply(pipeline)


def plain_task() -> RenderTask:
    """A render of text alone, which refuses nothing by itself."""
    request = RenderRequest(
        model_id="m", preset="p", prompt=PROMPT, width_px=64, height_px=64, steps=1, guidance_scale=0, seed=SEED
    )
    return RenderTask(task_id="bench", request=request, model=ModelFiles(path=".", digest="0" * 64))


def compiled(pipeline: Any) -> None:
    """The blocks that repeat, as `compiled_blocks` compiles them, before the run instead of after it."""
    network_of(pipeline).compile_repeated_blocks(fullgraph=True, dynamic=False)


def step_cache(threshold: float, pipeline: Any) -> None:
    """Lossy: see `step_cache` of requests."""
    import diffusers

    made: Any = diffusers.FirstBlockCacheConfig
    network_of(pipeline).enable_cache(made(threshold=threshold))


def eight_bits(way: Any, pipeline: Any) -> None:  # Any: `Way`, which is imported late
    """Lossy: as `quantisation` of requests computes. Errors: RenderFailed where this machine cannot."""
    from dreamforge.gpu_runner.rendering.eight_bit_layers import compute_in_eight_bits

    compute_in_eight_bits(network_of(pipeline), way, pipeline.device, stays=True)


def eight_bits_compiled(way: Any, pipeline: Any) -> None:  # Any: as above
    """The same with `compiled_blocks`, which join the rounding with what is around it."""
    eight_bits(way, pipeline)
    compiled(pipeline)


def torchao_weights(configuration: str, pipeline: Any) -> None:
    """Lossy: weights of eight bits by torchao, where it is installed."""
    torchao = import_module("torchao.quantization")
    torchao.quantize_(network_of(pipeline), getattr(torchao, configuration)())


def float8_storage(pipeline: Any) -> None:
    """Lossy: weights wait as eight bits, and are widened layer by layer; saves memory, not time."""
    import torch

    network = network_of(pipeline)
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)


def other_vae(folder: Path, pipeline: Any) -> None:
    """Lossy: a distilled autoencoder decodes."""
    import diffusers

    read: Any = diffusers.AutoencoderTiny.from_pretrained
    pipeline.vae = read(str(folder), dtype=pipeline.vae.dtype).to(pipeline.device)


def options_for(vae: Path | None = None) -> Mapping[str, Apply]:
    """What is measured, by name."""
    from dreamforge.gpu_runner.rendering.eight_bit_layers import CAPABILITIES
    from dreamforge.gpu_runner.rendering.optimisations import KNOWN

    return {
        **{name: partial(optimisation, name) for name in KNOWN},
        "compiled_blocks": compiled,
        **{f"step cache {threshold:g} (lossy)": partial(step_cache, threshold) for threshold in THRESHOLDS},
        **{f"{way} (lossy)": partial(eight_bits, way) for way in CAPABILITIES},
        **{f"{way}, compiled (lossy)": partial(eight_bits_compiled, way) for way in CAPABILITIES},
        "float8 storage (lossy)": float8_storage,
        "int8 weights (lossy)": partial(torchao_weights, "Int8WeightOnlyConfig"),
        "float8 weights (lossy)": partial(torchao_weights, "Float8WeightOnlyConfig"),
        **({"distilled decoder (lossy)": partial(other_vae, vae)} if vae is not None else {}),
    }


def opened(options: argparse.Namespace) -> Any:  # Any: see `Apply`
    """A fresh pipeline on the device."""
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
    return pipeline


def run(options: argparse.Namespace, pipeline: Any) -> tuple[float, Any]:  # Any: see `Apply`
    """Seconds of one run, and its image."""
    import torch

    size = {"width": options.side, "height": options.side} if options.side else {}
    began = clock()
    with torch.no_grad():
        generator = torch.Generator("cpu").manual_seed(SEED)
        made = pipeline(PROMPT, num_inference_steps=options.steps, generator=generator, output_type="pt", **size)
    images = made.images if hasattr(made, "images") else made.frames[0]
    return clock() - began, images[0].float().cpu()


def measured(options: argparse.Namespace, one_run: Callable[[], tuple[float, Any]]) -> Measured:
    """The first run and those that count."""
    first_seconds, _ = one_run()
    runs = [one_run() for _ in range(options.rounds)]
    return Measured(first_seconds, median(seconds for seconds, _ in runs), runs[-1][1])


def measure(options: argparse.Namespace, apply: Apply | None) -> Measured:
    """A fresh pipeline with one option. Errors: whatever the option raises."""
    pipeline = opened(options)
    if apply is not None:
        apply(pipeline)
    return measured(options, partial(run, options, pipeline))


def lay_lora(pipeline: Any, rank: int) -> None:  # Any: see `Apply`
    """Random numbers of this rank in the place of the LoRA that is there, in attention's projections."""
    import torch
    from peft import LoraConfig

    network = network_of(pipeline)
    if getattr(network, "peft_config", None):
        network.unload_lora()
    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v"]))
    numbers = torch.Generator("cpu").manual_seed(rank)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ".lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=numbers) * LORA_NOISE)


def with_lora(options: argparse.Namespace) -> Measured:
    """Stock diffusers with the second LoRA."""
    pipeline = opened(options)
    lay_lora(pipeline, LORA_RANKS[1])
    return measured(options, partial(run, options, pipeline))


def swapped_lora(options: argparse.Namespace) -> Measured:
    """Blocks that were compiled with the first LoRA, as a runner does it, and rendered with the second."""
    from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler
    from dreamforge.gpu_runner.rendering.optimisations import denoisers_of

    pipeline, compiler = opened(options), BlockCompiler()
    compiler.put_on(pipeline, denoisers_of(pipeline))

    def one_run() -> tuple[float, Any]:  # Any: see `run`
        result, is_compiled = compiler.run(pipeline, (), partial(run, options, pipeline), at_once=True)
        if not is_compiled:
            raise ValueError(compiler.failure(pipeline) or "its denoiser has no blocks that repeat")
        return result

    lay_lora(pipeline, LORA_RANKS[0])
    one_run()
    lay_lora(pipeline, LORA_RANKS[1])
    return measured(options, one_run)


def psnr_db(image: Any, exact: Any) -> float:
    """Peak signal-to-noise ratio; infinite where they are equal."""
    error = float(((image - exact) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def row(name: str, found: Measured, stock: Measured) -> str:
    """One option: seconds of both, share, first run, likeness."""
    noise = psnr_db(found.image, stock.image)
    likeness = "equal" if math.isinf(noise) else f"{noise:.1f} dB"
    share = found.seconds / stock.seconds
    seconds = f"{stock.seconds:8.3f} s {found.seconds:8.3f} s"
    return f"{name:26} {seconds} {share:6.2f} x {found.first_seconds:9.1f} s   {likeness}"


def table(options: argparse.Namespace, ways: Mapping[str, Apply]) -> Iterator[str]:
    """A row for each way, as soon as it is measured."""
    measure(options, None)  # what the libraries do once
    yield f"{'':26} {'stock':>10} {'with it':>10} {'share':>8} {'first run':>11}   image against stock"
    for name, apply in ways.items():
        yield measured_row(name, partial(measure, options, None), partial(measure, options, apply))


def measured_row(name: str, stock: Callable[[], Measured], way: Callable[[], Measured]) -> str:
    """One row, or why there is none: the others are measured all the same."""
    try:
        plain = stock()
        return row(name, way(), plain)
    except Exception as error:  # whatever a library says
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        return f"{name:26} does not apply: {said[:90]}"


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser()
    made.add_argument("--model", default="models/forge-shapes")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--side", type=int, default=0, help="of the image in pixels; 0: the model's own")
    made.add_argument("--dtype", default="auto")
    made.add_argument("--vae", type=Path, help="folder of an AutoencoderTiny that fits the model")
    return made


def main() -> None:
    """Print the table."""
    options = parser().parse_args()
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # before torch, as in the runner
    for line in table(options, options_for(options.vae)):
        print(line, flush=True)
    print(measured_row(SWAPPED, partial(with_lora, options), partial(swapped_lora, options)))


if __name__ == "__main__":
    main()
