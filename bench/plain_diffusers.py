"""What `bench.runner` compares with: a plain diffusers script whose pipeline stays loaded between requests.

Started by the benchmark; reads lines `first_seed images` and answers with the seconds they took, PNG files included.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diffusers
import torch

PROMPT = "a large red circle on a blue background"
SIDE_PX, STEPS, GUIDANCE = 64, 20, 3.0


def main() -> None:
    """Serve standard input until it ends."""
    torch.set_num_threads(1)
    load: Any = diffusers.DiffusionPipeline.from_pretrained
    pipeline = load(sys.argv[1], dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    print("ready", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            first_seed, images = map(int, line.split())
            began = time.perf_counter()
            for seed in range(first_seed, first_seed + images):
                image = pipeline(
                    PROMPT,
                    width=SIDE_PX,
                    height=SIDE_PX,
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=torch.Generator("cpu").manual_seed(seed),
                ).images[0]
                image.save(Path(folder) / f"{seed}.png")
            print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
