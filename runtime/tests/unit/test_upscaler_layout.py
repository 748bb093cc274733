"""Upscalers are told by the names and shapes of their tensors, whatever their trainer called them."""

from pathlib import Path

import pytest

from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.storage.upscaler_layout import CompactLayout, RrdbLayout, Shapes, upscaler_layout
from dreamforge.runtime.testing.model_files import LORA, UNET, WEIGHTS, write_safetensors

X4 = RrdbLayout(width=8, growth=4, blocks=2, doublings=2, fold=1, names={}).shapes()
X2 = RrdbLayout(width=8, growth=4, blocks=1, doublings=2, fold=2, names={}).shapes()
COMPACT = CompactLayout(width=8, convolutions=3, scale=4, names={}).shapes()


def renamed(shapes: Shapes, *changes: tuple[str, str]) -> dict[str, tuple[int, ...]]:
    found = dict(shapes)
    for old, new in changes:
        found = {name.replace(old, new): shape for name, shape in found.items()}
    return found


FIRST_RELEASE = renamed(
    X4,
    *(("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), ("rdb", "RDB"), ("conv_up", "upconv")),
    ("conv_hr", "HRconv"),
)
TRAINERS = renamed(
    X4,
    *(("conv_first", "model.0"), ("conv_body", "model.1.sub.2"), ("conv_up1", "model.3"), ("conv_up2", "model.6")),
    *(("conv_hr", "model.8"), ("conv_last", "model.10"), ("body.", "model.1.sub."), ("rdb", "RDB")),
    *((f"conv{number}.", f"conv{number}.0.") for number in range(1, 6)),
)
WRAPPED = {f"params_ema.{name}": shape for name, shape in COMPACT.items()}


@pytest.mark.parametrize(
    ("shapes", "scale"), [(X4, 4), (X2, 2), (COMPACT, 4), (FIRST_RELEASE, 4), (TRAINERS, 4), (WRAPPED, 4)]
)
def test_every_naming_of_a_network_is_the_same_network(shapes: Shapes, scale: int) -> None:
    layout = upscaler_layout(shapes)
    assert layout is not None
    assert not isinstance(layout, str)
    assert layout.scale == scale
    assert {name: shapes[given] for name, given in layout.names.items()} == layout.shapes()
    assert set(layout.names.values()) == set(shapes)


def test_what_differs_is_named() -> None:
    assert "without conv_hr.bias" in str(upscaler_layout({n: s for n, s in X4.items() if n != "conv_hr.bias"}))
    assert "with more.weight" in str(upscaler_layout(X4 | {"more.weight": (1,)}))
    assert "conv_body.weight has shape (9, 8, 3, 3)" in str(upscaler_layout(X4 | {"conv_body.weight": (9, 8, 3, 3)}))
    assert "unknown variant" in str(upscaler_layout(X4 | {"conv_first.weight": (8, 27, 3, 3)}))
    assert upscaler_layout(dict(LORA)) is None
    assert upscaler_layout(dict(WEIGHTS[UNET])) is None


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    facts = inspect_model(write_safetensors(tmp_path / "4x.safetensors", X4))
    assert (facts.kind, facts.family, facts.scale, facts.files) == ("upscaler", "esrgan", 4, ("4x.safetensors",))
    broken = write_safetensors(tmp_path / "other.safetensors", X4 | {"more.weight": (1,)})
    with pytest.raises(ModelUnusable, match="ESRGAN family"):
        inspect_model(broken)
