"""What a model folder holds, read from its headers before anything is loaded."""

from pathlib import Path

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.runtime.storage.model_facts import ModelFacts, ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.storage.weight_variants import choose_variant, part_weights


def inspected(model_id: str, folder: Path) -> ModelFacts:
    """What the files of a model are and how many bytes they take in memory. About 10 ms a folder.

    Errors: RenderFailed(model_broken) with the part that cannot be loaded: no other attempt can succeed.
    """
    try:
        return inspect_model(folder)
    except (ModelUnusable, OSError) as error:
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"{model_id} does not load: {error}") from error


def variant_of(part: Path) -> str | None:
    """Under which variant the weights of one part's folder are found: `fp16` and the like; None: without a name."""
    return choose_variant(part_weights(path.name for path in part.iterdir()).complete) or None
