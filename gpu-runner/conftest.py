"""Doctests are collected from every module; importing these costs seconds of torch, and they have none."""

import os

from dreamforge.gpu_runner.machine.libraries import ENVIRONMENT, MKL_MODE

# Tests that render in this process render as a child does; MKL reads it once, so it is set before torch is imported.
os.environ.setdefault(MKL_MODE, ENVIRONMENT[MKL_MODE])

RENDERING = (
    "diffusers_renderer",
    "feature_chain",
    "feature_list",
    "hooks",
    "pipeline",
    "pipeline_cache",
    "tiny_model",
    "torch_device",
    "variants",
    "weighted_embeddings",
)
collect_ignore = [f"src/dreamforge/gpu_runner/rendering/{name}.py" for name in RENDERING]
collect_ignore_glob = ["src/dreamforge/gpu_runner/rendering/features/*.py"]
