"""The vectors in the file of an embedding. Import this only in the child."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import ModelFiles
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, first_line
from dreamforge.runtime.storage.embedding_layout import SDXL_WIDTHS
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import lora_file

#: By the part of the pipeline: (vectors, width), as many for each part.
Vectors = Mapping[str, torch.Tensor]
#: A file has at most 75 vectors, which is some hundred kilobytes.
REMEMBERED = 32


@lru_cache(maxsize=REMEMBERED)
def vectors_of(model_id: str, files: ModelFiles) -> Vectors:
    """What an embedding puts in place of a word. Errors: RenderFailed(model_broken)."""
    path = Path(files.path)
    try:
        tensors = load_file(path if path.is_file() else lora_file(path))
    except (ModelUnusable, SafetensorError, OSError) as error:
        message = f"embedding {model_id} does not load: {first_line(error)}"
        raise RenderFailed(FailureReason.MODEL_BROKEN, message) from error
    if tensors.keys() == SDXL_WIDTHS.keys():
        return {"text_encoder": _rows(tensors["clip_l"]), "text_encoder_2": _rows(tensors["clip_g"])}
    if len(tensors) != 1:
        message = f"embedding {model_id} does not load: it has {len(tensors)} tensors, {', '.join(sorted(tensors)[:5])}"
        raise RenderFailed(FailureReason.MODEL_BROKEN, message)
    return {"text_encoder": _rows(next(iter(tensors.values())))}


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, tensor.shape[-1])
