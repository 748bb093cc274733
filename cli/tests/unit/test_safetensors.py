"""A safetensors file says itself whether it is whole."""

import json
from pathlib import Path

import pytest

from dreamforge.cli.models.safetensors import safetensors_fault


def tensors(data: bytes, end: int | None = None) -> bytes:
    offsets = [0, len(data) if end is None else end]
    header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "shape": [len(data)], "data_offsets": offsets}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_whole_file_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(tensors(b"x" * 100))
    assert safetensors_fault(tmp_path / "w") == ""


def test_a_shipped_file_has_no_fault() -> None:
    for path in (Path(__file__).parents[3] / "models" / "forge-shapes").rglob("*.safetensors"):
        assert safetensors_fault(path) == ""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (tensors(b"x" * 100)[:-1], "tells of"),
        (tensors(b"x" * 100) + b"y", "tells of"),
        (tensors(b"x" * 100)[:20], "does not fit"),
        (b"", "does not fit"),
        (b"\xff" * 64, "does not fit"),
        (b"<!doctype html><html><body>Not Found</body></html>", "does not fit"),
        ((10).to_bytes(8, "little") + b"not json!!", "cannot be read"),
        ((2).to_bytes(8, "little") + b"[]", "cannot be read"),
    ],
)
def test_what_is_not_whole_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "w").write_bytes(content)
    assert told in safetensors_fault(tmp_path / "w")
