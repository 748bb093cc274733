"""Doctests are collected from every module; importing these costs seconds of torch, and they have none."""

collect_ignore = [
    f"src/dreamforge/gpu_runner/rendering/{name}.py"
    for name in ("diffusers_renderer", "pipeline", "pipeline_cache", "features/samplers", "tiny_model", "torch_device")
]
