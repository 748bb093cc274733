"""Image prompts of a task by what reads them, and images as encoders read colours. Import this only in the child."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dreamforge.contracts.request.values import ImagePromptUse
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.runtime.storage.pipeline_class import INDEX_NAME

Colour = tuple[float, float, float]


def adapter_uses(task: RenderTask) -> tuple[ImagePromptUse, ...]:
    """Those by IP-Adapters: a file and its encoder."""
    return tuple(use for use in task.request.image_prompts if not _is_redux(task, use))


def redux_uses(task: RenderTask) -> tuple[ImagePromptUse, ...]:
    """Those by FLUX Redux, which is the folder of a pipeline."""
    return tuple(use for use in task.request.image_prompts if _is_redux(task, use))


def normalised(image: Image.Image, mean: Colour, deviation: Colour) -> torch.Tensor:
    """(1, 3, height, width) of an image of mode RGB, each channel less its mean and by its standard deviation."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return ((pixels - torch.tensor(mean)) / torch.tensor(deviation)).permute(2, 0, 1)[None]


def _is_redux(task: RenderTask, use: ImagePromptUse) -> bool:
    return (Path(task.assets[use.model_id].path) / INDEX_NAME).is_file()
