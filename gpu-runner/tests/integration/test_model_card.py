"""The example of the model card, run as it is written there."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

CARD = Path(__file__).parents[3] / "models" / "forge-shapes" / "README.md"


def test_the_example_of_the_model_card_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", CARD.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "models").symlink_to(CARD.parents[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(found[1])
    runpy.run_path(str(tmp_path / "example.py"))
    with Image.open("circle.png") as image:
        assert image.size == (64, 64)
        red, green, blue = image.convert("RGB").getpixel((32, 32))  # type: ignore[misc]  # three channels
    assert red > 150 > max(green, blue), "the circle is in the middle"
