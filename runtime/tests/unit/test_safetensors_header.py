"""The header of a safetensors file is read without its weights."""

import json
from pathlib import Path

import pytest

from dreamforge.runtime.storage.safetensors_header import read_header


def written(folder: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_tensors_and_the_size_of_a_complete_file_are_read(tmp_path: Path) -> None:
    tensor = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}
    path = written(tmp_path, {"__metadata__": {"format": "pt"}, "w": tensor}, b"x" * 12)
    found = read_header(path)
    assert list(found.tensors) == ["w"]
    assert (found.tensors["w"].dtype, found.tensors["w"].shape, found.tensors["w"].size_bytes) == ("F16", (2, 3), 12)
    assert found.file_bytes == path.stat().st_size


@pytest.mark.parametrize("header", [[], {"w": {}}, {"w": {"format": "pt"}}, {"w": {"dtype": "F16", "shape": [1]}}])
def test_another_header_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(written(tmp_path, header))
