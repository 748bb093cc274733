"""A safetensors file is checked against its own header."""

import json
from pathlib import Path

import pytest

from dreamforge.cli.models.safetensors import safetensors_fault


def tensors(data: bytes, end: int | None = None) -> bytes:
    offsets = [0, len(data) if end is None else end]
    header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "shape": [len(data)], "data_offsets": offsets}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_complete_file_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(tensors(b"x" * 100))
    assert safetensors_fault(tmp_path / "w") == ""


def test_a_shipped_file_has_no_fault() -> None:
    for path in (Path(__file__).parents[3] / "models" / "forge-shapes").rglob("*.safetensors"):
        assert safetensors_fault(path) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensors(b"x" * 100)[:-1], "header lists"),
        (tensors(b"x" * 100) + b"y", "header lists"),
        (tensors(b"x" * 100)[:20], "does not fit"),
        (b"", "does not fit"),
        (b"\xff" * 64, "does not fit"),
        (b"<!doctype html><html><body>Not Found</body></html>", "does not fit"),
        ((10).to_bytes(8, "little") + b"not json!!", "cannot be read"),
        ((2).to_bytes(8, "little") + b"[]", "cannot be read"),
    ],
)
def test_an_incomplete_file_is_described(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w").write_bytes(content)
    assert message in safetensors_fault(tmp_path / "w")
