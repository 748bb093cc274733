"""`bench.acceleration` measures each way on a fresh pipeline, and compares its image with the stock one."""

import sys
from functools import partial
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
sys.path.append(str(REPOSITORY))  # benchmarks belong to no distribution

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]


def test_each_way_has_a_row_with_its_share_and_likeness_or_why_it_does_not_apply(cache: Path) -> None:
    from bench.acceleration import options_for, parser, table
    from runner_testkit.assets import ensure_tiny_autoencoder
    from runner_testkit.families import ensure_family

    folder, vae = ensure_family(cache, "flux"), ensure_tiny_autoencoder(cache, "flux")
    options = parser().parse_args(["--model", str(folder), "--rounds", "1", "--steps", "2", "--side", "32"])
    ways = options_for(vae)
    chosen = ("attention_cudnn", "distilled decoder (lossy)")
    head, *rows = table(options, {name: ways[name] for name in chosen})
    assert "stock" in head
    found = dict(zip(chosen, rows, strict=True))
    assert "does not apply: RuntimeError: No viable backend" in found["attention_cudnn"]
    assert " x " in found["distilled decoder (lossy)"]
    assert found["distilled decoder (lossy)"].endswith(" dB")
    assert set(ways) >= {"channels_last", "compiled_blocks", "int8 (lossy)", "float8, compiled (lossy)"}


def test_likeness_is_in_decibels_and_equal_images_are_infinitely_alike() -> None:
    import torch
    from bench.acceleration import psnr_db

    white = torch.ones(2, 2, 3)
    assert psnr_db(white, white) == float("inf")
    assert psnr_db(white, white - 0.1) == pytest.approx(20.0, abs=1e-4)


def test_a_swapped_lora_is_compared_with_the_same_one_on_stock_diffusers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch takes the code of blocks apart, and calls its own operators instead of compiling them."""
    from bench.acceleration import SWAPPED, measured_row, parser, swapped_lora, with_lora
    from runner_testkit.families import ensure_family

    from dreamforge.gpu_runner.rendering import compiled_blocks

    eager = partial(compiled_blocks.BlockCompiler, "eager")
    monkeypatch.setattr(compiled_blocks, "BlockCompiler", eager)
    options = parser().parse_args(["--model", str(ensure_family(cache, "flux")), "--rounds", "1", "--steps", "2"])
    options.side = 32
    found = measured_row(SWAPPED, partial(with_lora, options), partial(swapped_lora, options))
    assert found.endswith((" dB", "equal")), found
