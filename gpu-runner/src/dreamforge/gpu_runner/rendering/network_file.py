"""A network from one file in its folder, as its original release or a quantiser wrote it. Only in the child."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from dreamforge.gpu_runner.rendering.checkpoint import CONVERSIONS, tensors_of_part
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, check_complete
from dreamforge.gpu_runner.rendering.renderer import first_line
from dreamforge.gpu_runner.rendering.tensor_origins import TensorOrigins
from dreamforge.runtime.storage.quantised import GGUF, LIBRARIES, library_problem

RIGHT = "take the weights as diffusers saves them"


def read_network_file(
    part_class: Any, file: Path, dtype: torch.dtype, report: LoadReport, *, without_memory: bool
) -> Any:  # Any: diffusers' classes have no types
    """The part whose config.json lies beside the file, with every weight from it.

    The weights of a GGUF file stay quantised and are computed with in `dtype`; all others become `dtype`.
    `without_memory`: look at the names and shapes only, and give None.
    Errors: WeightsWrong; MemoryError, torch.OutOfMemoryError.
    """
    name = file.parent.name
    if part_class.__name__ not in CONVERSIONS:
        raise WeightsWrong(name, f"{part_class.__name__} cannot be read from one file; {RIGHT}")
    is_gguf = file.suffix == GGUF
    if is_gguf and (problem := library_problem(LIBRARIES["gguf"], RIGHT)) is not None:
        raise WeightsWrong(name, "; ".join(problem))
    try:
        if not is_gguf:
            tensors = load_file(file)
            used = tensors_of_part(part_class, file.parent, tensors)
            report.add_unread(name, TensorOrigins(tensors).unused(used))
        if without_memory:
            return None
        module = _read(part_class, file, dtype, is_gguf=is_gguf)
    except (MemoryError, torch.OutOfMemoryError, WeightsWrong):
        raise
    except Exception as error:  # whatever the libraries choose
        raise WeightsWrong(name, first_line(error) or type(error).__name__) from error
    check_complete(name, module)
    return module


def _read(part_class: Any, file: Path, dtype: torch.dtype, *, is_gguf: bool) -> Any:  # Any: as above
    quantised: Any = diffusers.GGUFQuantizationConfig  # Any: as above
    how = {"quantization_config": quantised(compute_dtype=dtype)} if is_gguf else {}
    return part_class.from_single_file(str(file), config=str(file.parent), dtype=dtype, local_files_only=True, **how)
