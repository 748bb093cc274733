"""LoRAs laid over a resident pipeline, and lifted again without a trace. Import this only in the child.

Never fused: `fuse_lora` and `unfuse_lora` leave rounding behind in weights that every later picture shares.
"""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import LoraTask
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: What diffusers calls the file when it saves one.
USUAL_NAME = "pytorch_lora_weights.safetensors"


class Adapters:
    """Which LoRAs lie over which pipeline: the images of one job lay them once."""

    def __init__(self) -> None:
        # Any: `load_lora_weights` and its kin belong to some pipelines only. Weak: a model that leaves memory
        # takes its LoRAs along.
        self._laid: WeakKeyDictionary[Any, tuple[LoraTask, ...]] = WeakKeyDictionary()

    def lay(self, pipeline: Any, loras: tuple[LoraTask, ...], model_id: str) -> None:  # Any: see above
        """Have exactly these over the pipeline; none restores it to the last bit.

        Errors: RenderFailed (invalid_request where a LoRA was made for another model, model_missing), and then
        none is left.
        """
        if loras == self._laid.get(pipeline, ()):
            return
        self.lift(pipeline)
        try:
            # Told before it is done, so that whatever goes wrong half-way is lifted.
            self._laid[pipeline] = loras
            names = [_load(pipeline, lora, number, model_id) for number, lora in enumerate(loras)]
            if names:
                pipeline.set_adapters(names, [lora.weight for lora in loras])
        except BaseException:
            self.lift(pipeline)
            raise

    def lift(self, pipeline: Any) -> None:  # Any: see above
        """Take all of them off."""
        if self._laid.pop(pipeline, ()):
            pipeline.unload_lora_weights()


def _load(pipeline: Any, lora: LoraTask, number: int, model_id: str) -> str:  # Any: see Adapters
    name, file = f"lora_{number}", _file(lora)
    try:
        pipeline.load_lora_weights(
            str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _misfit(lora, model_id, str(error).strip().split("\n", 1)[0]) from error
    # Layers of another architecture are passed over in silence.
    if not any(name in names for names in pipeline.get_list_adapters().values()):
        raise _misfit(lora, model_id, "none of its layers are there")
    return name


def _file(lora: LoraTask) -> Path:
    path = Path(lora.path)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    usual = [file for file in files if file.name == USUAL_NAME]
    if len(found := usual or files) != 1:
        message = f"LoRA {lora.model_id}: {len(found)} safetensors files in its folder, and one is needed"
        raise RenderFailed(FailureReason.MODEL_MISSING, message)
    return found[0]


def _misfit(lora: LoraTask, model_id: str, why: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, f"LoRA {lora.model_id} does not fit {model_id}: {why}")
