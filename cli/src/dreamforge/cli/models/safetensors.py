"""Whether a safetensors file is complete, from its own header: the only check of a file that has no pinned hash."""

from pathlib import Path

from dreamforge.runtime.storage.safetensors_header import read_header


def safetensors_fault(path: Path) -> str:
    """What is wrong with the file; "" if it holds exactly the tensors that its header lists. Reads only the header."""
    try:
        expected = read_header(path).file_bytes
    except ValueError as error:
        return f"it is not a safetensors file: {error}"
    size = path.stat().st_size
    return "" if size == expected else f"it has {size} bytes, but its own header lists {expected}"
