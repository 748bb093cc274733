"""Quantised networks as people have them: one file in a network's folder, or a folder that names its quantiser.

Also what single parts need to be installed.
"""

import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dreamforge.runtime.storage.safetensors_header import TensorInfo
from dreamforge.runtime.storage.weight_variants import WEIGHTS

GGUF = ".gguf"
SAFETENSORS = ".safetensors"
#: The parts that are passed around as one file, in the layout of their original release.
NETWORKS = frozenset({"transformer", "unet"})
#: Networks whose products can be computed in eight bits: those that run in each step.
DENOISERS = frozenset({"transformer", "transformer_2", "unet"})
#: Sides of a matrix are multiples of it, or kernels do not take them: 16 of float8, 8 of int8.
SIDE_MULTIPLE = 16
#: Layers that read one vector an image, or change all of it: they take no time, and kernels want 17 rows and more.
APART = re.compile(r"(^|\.)\w*(norm|mod|emb)\w*(\.|$)", re.IGNORECASE)
#: Layers of blocks, of which there are many: `transformer_blocks.3.attn.to_q`. What is around them stays as it is.
IN_BLOCK = re.compile(r"(^|\.)\d+\.")
#: What torchao 0.18 keeps of each row of such a matrix beside its weights: a scale, and a zero of 8 bits.
ROW_BYTES = 5
#: The start of a GGUF file (its specification, version 3): magic, version, number of tensors, number of other entries.
_GGUF_HEAD = struct.Struct("<4sIQQ")
_GGUF_MAGIC, _GGUF_VERSIONS = b"GGUF", (2, 3)
#: The module that loads what a `quantization_config` names as its method, and the package that has it.
LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "bitsandbytes_4bit": ("bitsandbytes", "bitsandbytes"),
    "bitsandbytes_8bit": ("bitsandbytes", "bitsandbytes"),
    "gguf": ("gguf", "gguf"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "sdnq": ("sdnq", "sdnq"),
    "torchao": ("torchao", "torchao"),
}
#: Packages that are extras of the runner's: `pip install "dreamforge-gpu-runner[sdnq]"`.
EXTRAS = frozenset({"bitsandbytes", "sdnq", "torchao"})
#: Those that diffusers finds only once they were imported.
REGISTERING = {"sdnq": "sdnq"}
#: diffusers before it named the method wrote these for bitsandbytes.
_BEFORE_NAMES = ("load_in_8bit", "load_in_4bit")


def network_file(part: str, names: Iterable[str]) -> str | None:
    """The one file of weights of a network's folder that is not named as diffusers names them; None without one.

    >>> network_file("transformer", ["config.json", "flux1-dev-Q4_K_S.gguf"]), network_file("vae", ["a.gguf"])
    ('flux1-dev-Q4_K_S.gguf', None)
    """
    found = [name for name in names if name.endswith((GGUF, SAFETENSORS))]
    if part not in NETWORKS or len(found) != 1 or WEIGHTS.fullmatch(found[0]):
        return None
    return found[0]


def takes_eight_bits(layer: str, shape: tuple[int, ...]) -> bool:
    """Whether a linear layer of this name, with weights of this shape, is one whose products are computed in 8 bits.

    >>> takes_eight_bits("blocks.3.attn.to_q", (64, 64)), takes_eight_bits("blocks.3.norm.linear", (64, 64))
    (True, False)
    """
    if len(shape) != 2 or any(side % SIDE_MULTIPLE for side in shape):
        return False
    return IN_BLOCK.search(layer) is not None and APART.search(layer) is None


def eight_bit_saved_bytes(network: str, tensors: Mapping[str, TensorInfo]) -> int:
    """What the weights of a network, by their names in diffusers, take less in 8 bits than in 16, with their scales."""
    weights = ((name.removesuffix(".weight"), each.shape) for name, each in tensors.items() if name.endswith(".weight"))
    shapes = [shape for layer, shape in weights if network in DENOISERS and takes_eight_bits(layer, shape)]
    return sum(math.prod(shape) - ROW_BYTES * shape[0] for shape in shapes)


def gguf_tensors(path: Path) -> dict[str, TensorInfo]:
    """All of a GGUF file as one tensor that is no float: what is loaded stays as small as it is in the file.

    Errors: ValueError that says why it is none; OSError.
    """
    with path.open("rb") as file:
        head = file.read(_GGUF_HEAD.size)
    if len(head) < _GGUF_HEAD.size or not head.startswith(_GGUF_MAGIC):
        raise ValueError("it does not start as one")
    _, version, tensors, _ = _GGUF_HEAD.unpack(head)
    if version not in _GGUF_VERSIONS:
        raise ValueError(f"its version is {version}, and known are {', '.join(map(str, _GGUF_VERSIONS))}")
    if not tensors:
        raise ValueError("it holds no weights")
    return {path.name: TensorInfo(dtype="GGUF", shape=(), data_offsets=(0, path.stat().st_size))}


def quantiser_problem(
    configuration: dict[str, Any],  # Any: an open JSON object
    is_there: Callable[[str], object] = find_spec,
) -> tuple[str, str] | None:
    """Why a quantised part cannot be loaded here, and what would be right; None where it can, or is not quantised.

    On a machine without diffusers, which is that of the command line alone, a runner has to judge.
    """
    if configuration.get("quantization_config") is None:
        return None
    method = _method_of(configuration)
    plain = "take the weights as float16, bfloat16 or float32"
    if (library := LIBRARIES.get(str(method).lower())) is None:
        return f"is quantised by {method or 'a method that it does not name'}, which the renderer does not read", plain
    return None if not _exists("diffusers", is_there) else library_problem(library, plain, is_there)


def registering_module(configuration: dict[str, Any]) -> str | None:  # Any: an open JSON object
    """The module to import before a part of this configuration is read; None: none.

    >>> registering_module({"quantization_config": {"quant_method": "sdnq"}}), registering_module({})
    ('sdnq', None)
    """
    return REGISTERING.get(str(_method_of(configuration)).lower())


def _method_of(configuration: dict[str, Any]) -> object:  # Any: as above
    settings = configuration.get("quantization_config")
    if not isinstance(settings, dict):
        return None
    if settings.get("quant_method") is None and any(settings.get(name) for name in _BEFORE_NAMES):
        return "bitsandbytes"
    return settings.get("quant_method")


def library_problem(
    library: tuple[str, str], otherwise: str, is_there: Callable[[str], object] = find_spec
) -> tuple[str, str] | None:
    """The same where only the library can be missing. `library`: its module and its package."""
    module, package = library
    if _exists(module, is_there):
        return None
    right = f"{how_to_install(package)}, or {otherwise}"
    return f"is quantised for {package}, a quantiser that is not installed", right


def is_installed(method: str, is_there: Callable[[str], object] = find_spec) -> bool:
    """Whether the library of a method is on this machine."""
    return _exists(LIBRARIES[method][0], is_there)


def how_to_install(package: str) -> str:
    """For people.

    >>> how_to_install("sdnq")
    'install "dreamforge-gpu-runner[sdnq]" where the runner is'
    """
    named = f'"dreamforge-gpu-runner[{package}]"' if package in EXTRAS else package
    return f"install {named} where the runner is"


#: What classes of parts need that the runner does not bring: those of transformers that also read images.
NEEDS_OF_CLASS = {
    "PixtralProcessor": ("torchvision", "torchvision"),
    "Qwen2VLProcessor": ("torchvision", "torchvision"),
    "Qwen2_5_VLProcessor": ("torchvision", "torchvision"),
}


def class_problem(class_name: str, is_there: Callable[[str], object] = find_spec) -> tuple[str, str] | None:
    """As `quantiser_problem`, of a part whose class itself needs a library."""
    needed = NEEDS_OF_CLASS.get(class_name)
    if needed is None or not _exists("diffusers", is_there) or _exists(needed[0], is_there):
        return None
    return (
        f"({class_name}) needs {needed[1]}, which is not installed",
        f"install the {needed[1]} of your torch beside it",
    )


def _exists(module: str, is_there: Callable[[str], object]) -> bool:
    try:
        return bool(is_there(module))
    except ModuleNotFoundError:  # a package around the module is missing
        return False
