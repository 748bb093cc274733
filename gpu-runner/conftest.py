"""Doctests are collected from every module; importing these costs seconds of torch, and they have none."""

import os

from dreamforge.gpu_runner.machine.libraries import ENVIRONMENT, MKL_MODE

# Tests that render in this process render as a child does; MKL reads it once, so it stands before torch is imported.
os.environ.setdefault(MKL_MODE, ENVIRONMENT[MKL_MODE])

collect_ignore = [
    f"src/dreamforge/gpu_runner/rendering/{name}.py"
    for name in ("diffusers_renderer", "pipeline", "pipeline_cache", "features/samplers", "tiny_model", "torch_device")
]
