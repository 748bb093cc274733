"""The header of a safetensors file: its tensors and its size, without reading any weights.

Why not `safetensors.safe_open`: it imports numpy or torch for each file that it opens, and neither is installed with
the command alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

# The format: 8 bytes of little-endian header length, the header as JSON, the data. Its bound on the header.
LENGTH_BYTES = 8
HEADER_BYTES_MAX = 100_000_000
_METADATA = "__metadata__"


class TensorInfo(BaseModel):
    """One tensor of a file. `data_offsets` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor in the file."""
        begin, end = self.data_offsets
        return end - begin


_TENSORS = TypeAdapter(dict[str, TensorInfo | dict[str, str]])


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The tensors of a file, the size that a complete file has, and what its maker wrote beside them."""

    tensors: dict[str, TensorInfo]
    file_bytes: int
    metadata: dict[str, str] = field(default_factory=dict)


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header only. Errors: ValueError that says why the file is not a safetensors file; OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or not 2 <= header_bytes <= min(HEADER_BYTES_MAX, size - LENGTH_BYTES):
            raise ValueError("its header does not fit into the file")
        text = file.read(header_bytes)
    return parse_header(text)


def parse_header(text: bytes) -> SafetensorsHeader:
    """A header from its JSON. Errors: ValueError, as `read_header`."""
    try:
        found = _TENSORS.validate_json(text)
    except ValidationError:
        raise ValueError("its header cannot be read") from None
    tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, TensorInfo)}
    if found.keys() - tensors.keys() - {_METADATA}:
        raise ValueError("its header cannot be read")
    metadata = found.get(_METADATA, {})
    end = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    size = LENGTH_BYTES + len(text) + end
    return SafetensorsHeader(tensors, size, metadata if isinstance(metadata, dict) else {})
