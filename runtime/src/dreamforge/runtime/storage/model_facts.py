"""What is read of a model's files before anything loads them, as values, and the error of one that cannot run."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import Kind, Mode
from dreamforge.runtime.storage.safetensors_header import SafetensorsHeader, TensorInfo, read_header

#: The numbers that loading casts to the precision asked for, those of 8 bits too; all others stay as they are.
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(eq=False)
class ModelUnusable(InvalidInput):
    """Files that cannot be rendered with: which part, why, and what would be right."""

    code = "model_unusable"
    path: str
    part: str
    reason: str
    right: str

    def __str__(self) -> str:
        where = f"{self.path}: {self.part}" if self.part else self.path
        return f"{where} {self.reason}; {self.right}"


@dataclass(frozen=True, slots=True)
class WeightSize:
    """Parameters that are loaded: how many are floats, and the bytes of the others."""

    floats: int = 0
    other_bytes: int = 0

    def loaded_bytes(self, float_bytes: int) -> int:
        """Bytes in memory once the floats have `float_bytes` each."""
        return self.floats * float_bytes + self.other_bytes

    def __add__(self, other: "WeightSize") -> "WeightSize":
        return WeightSize(self.floats + other.floats, self.other_bytes + other.other_bytes)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's files say that they are.

    `family` is None, and `is_family_sure` False, where the files fit several. `files` are those that loading reads,
    relative to `folder`, sorted.
    """

    folder: Path
    kind: Kind
    family: str | None
    files: tuple[str, ...]
    part_sizes: tuple[WeightSize, ...]
    is_family_sure: bool = True
    modes: tuple[Mode, ...] = ()
    variant: str | None = None
    #: Of a pipeline: pixels of the side that it was trained for, 0 if the files do not say.
    side_px: int = 0
    is_guidance_distilled: bool = False
    #: One file with all weights and no configurations: the repository that has them.
    configuration: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    #: What its denoiser's weights take less in 8 bits than in 16, where they are named as diffusers names them.
    eight_bit_saved_bytes: int = 0
    #: Of an upscaler: how many times it enlarges a side.
    scale: int | None = None

    @property
    def size(self) -> WeightSize:
        """All that is loaded."""
        return sum(self.part_sizes, WeightSize())


def size_of(tensors: Iterable[TensorInfo]) -> WeightSize:
    """The size of these tensors once loaded."""
    tensors = list(tensors)
    floats = sum(math.prod(each.shape) for each in tensors if each.dtype in FLOATS)
    return WeightSize(floats, sum(each.size_bytes for each in tensors if each.dtype not in FLOATS))


def read_whole_header(path: Path, part: str = "") -> SafetensorsHeader:
    """The header of a complete safetensors file. Errors: ModelUnusable, OSError."""
    right = "copy or download it again"
    try:
        header = read_header(path)
    except ValueError as error:
        raise ModelUnusable(str(path), part, f"is not a safetensors file: {error}", right) from None
    if (size := path.stat().st_size) != header.file_bytes:
        raise ModelUnusable(str(path), part, f"has {size} bytes, but its header lists {header.file_bytes}", right)
    if not header.tensors:
        raise ModelUnusable(str(path), part, "holds no weights", right)
    return header


def read_json(path: Path, part: str = "") -> dict[str, Any]:  # Any: an open JSON object
    """A configuration as the libraries read it. Errors: ModelUnusable, OSError."""
    content = path.read_bytes()
    if content.startswith(BYTE_ORDER_MARK):
        right = "save it as UTF-8 without one: the libraries that load the model do not read it so"
        raise ModelUnusable(str(path), part, "starts with a byte order mark", right)
    try:
        found = json.loads(content.decode())
    except ValueError as error:
        raise ModelUnusable(str(path), part, f"is not JSON: {error}", "copy or download it again") from None
    if not isinstance(found, dict):
        raise ModelUnusable(str(path), part, "is not a JSON object", "copy or download it again")
    return found
