"""Doctests are collected from every module; importing these costs seconds of torch, and they have none."""

collect_ignore = [
    f"src/dreamforge/gpu_runner/{name}.py"
    for name in ("diffusers_renderer", "pipeline", "residents", "samplers", "tiny", "torch_device")
]
