"""Whether a safetensors file is whole, from its own header: the only check there is for a file that nobody pinned."""

import json
from pathlib import Path

LENGTH_BYTES = 8
#: The format's own bound on its header.
HEADER_BYTES_MAX = 100_000_000


def safetensors_fault(path: Path) -> str:
    """What is wrong with the file; "" if it holds just the tensors that its header lists. It reads only the header.

    Source: the format, 8 bytes of little-endian header length, the header as JSON with `data_offsets`, the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or not 2 <= header_bytes <= min(HEADER_BYTES_MAX, size - LENGTH_BYTES):
            return "it is no safetensors file: its header does not fit into it"
        try:
            end = _end_of(json.loads(file.read(header_bytes)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "it is no safetensors file: its header cannot be read"
    whole = LENGTH_BYTES + header_bytes + end
    return "" if size == whole else f"it has {size} bytes, but its own header tells of {whole}"


def _end_of(header: dict[str, dict[str, list[int]]]) -> int:
    tensors = (value for name, value in header.items() if name != "__metadata__")
    return max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
