"""One file with the weights of all parts, in the layout of the original releases: is everything in it, and read?

diffusers' `from_single_file` gives no report. Import this only in the child.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders import single_file_model
from safetensors.torch import load_file

from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, lacking, shown
from dreamforge.gpu_runner.rendering.tensor_origins import TensorOrigins, Tensors

#: What diffusers renames the keys of an original release with, by the class of the part. Any: untyped.
CONVERSIONS: Mapping[str, Any] = single_file_model.SINGLE_FILE_LOADABLE_CLASSES
#: Where text encoders are. What they lack is found once they are loaded; their own tables and heads are often beside.
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")


def check_checkpoint(checkpoint: Path, parts: Mapping[str, Any], report: LoadReport) -> None:
    """Whether a file has every weight of these parts (classes by name), and what else it has.

    Text encoders are left out: what they lack shows once they are loaded.

    Reads headers and configurations; the weights stay on the disk.
    Errors: WeightsWrong; SafetensorError, OSError, ValueError, KeyError as the libraries choose.
    """
    tensors = load_file(checkpoint)
    known = {name: part_class for name, part_class in parts.items() if _is_read_apart(part_class)}
    used = [
        tensor
        for name, part_class in known.items()
        for tensor in tensors_of_part(part_class, checkpoint.parent / name, tensors)
    ]
    unread = [key for key in TensorOrigins(tensors).unused(used) if not key.startswith(TEXT_ENCODERS)]
    report.add_unread(checkpoint.name, unread)


def tensors_of_part(part_class: Any, folder: Path, tensors: Tensors) -> list[torch.Tensor]:  # Any: untyped
    """The tensors of a file, in an original layout or diffusers' own, that the part with its configuration in `folder`
    is made of. Errors: WeightsWrong; those of the library.
    """
    name, configuration = folder.name, part_class.load_config(str(folder))
    with torch.device("meta"):
        expected = part_class.from_config(configuration).state_dict()
    convert = CONVERSIONS[part_class.__name__]["checkpoint_mapping_fn"]
    try:
        is_ours = expected.keys() <= tensors.keys()
        converted: Tensors = tensors if is_ours else convert(config=configuration, checkpoint=dict(tensors))
    except KeyError as error:  # a key that the conversion takes for granted
        raise lacking(name, error.args) from error
    if missing := expected.keys() - converted.keys():
        raise lacking(name, missing)
    if mismatched := [key for key, tensor in expected.items() if converted[key].shape != tensor.shape]:
        raise WeightsWrong(name, f"weights of another shape than its config.json says: {shown(mismatched)}")
    return [tensor for key, tensor in converted.items() if key in expected]


def _is_read_apart(part_class: Any) -> bool:
    """Whether diffusers reads this part out of a file with all weights by itself."""
    return issubclass(part_class, diffusers.ModelMixin) and part_class.__name__ in CONVERSIONS
