"""Which network an upscaler's file holds, from the names and shapes of its tensors. Pure.

Two architectures, which most upscalers are: RRDBNet (ESRGAN, Real-ESRGAN and what was trained from them) and the
compact network of Real-ESRGAN (SRVGGNetCompact). RRDBNet has three sets of names: those of Real-ESRGAN, which are used
here, those of ESRGAN's first release, and those of its trainers (`model.1.sub.0.RDB1.conv1.0.weight`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
COLOURS = 3
#: Convolutions of a dense block, and dense blocks of a residual one (ESRGAN, arXiv:1809.00219, figure 4).
DENSE_CONVOLUTIONS, DENSE_BLOCKS = 5, 3
#: Each convolution after which the image is doubled; more than three are an image of 16 times the side.
DOUBLINGS_MAX = 3
#: What trainers wrap the weights in.
_WRAPPERS = ("params_ema.", "params.", "module.", "model_g.")
_TRUNK = re.compile(r"(?:RRDB_trunk|model\.1\.sub)\.(\d+)\.RDB(\d)\.conv(\d)\.(?:0\.)?(weight|bias)", re.ASCII)
_TRUNK_END = re.compile(r"model\.1\.sub\.\d+\.(weight|bias)", re.ASCII)
_SEQUENTIAL = re.compile(r"model\.(\d+)\.(weight|bias)", re.ASCII)
_FIRST_RELEASE = {"trunk_conv": "conv_body", "HRconv": "conv_hr", **{f"upconv{n}": f"conv_up{n}" for n in (1, 2, 3)}}


@dataclass(frozen=True, slots=True)
class RrdbLayout:
    """RRDBNet. The image is folded by `fold` first (pixel unshuffle), and doubled `doublings` times at the end."""

    width: int
    growth: int
    blocks: int
    doublings: int
    fold: int
    names: Mapping[str, str]
    """Names of Real-ESRGAN, and what the file calls each."""

    @property
    def scale(self) -> int:
        """How many times a side is enlarged."""
        return (1 << self.doublings) // self.fold

    def shapes(self) -> dict[str, Shape]:
        """What every tensor must be."""
        width, growth = self.width, self.growth
        made = _convolution("conv_first", width, COLOURS * self.fold**2)
        for block in range(self.blocks):
            for dense in range(1, DENSE_BLOCKS + 1):
                for number in range(1, DENSE_CONVOLUTIONS + 1):
                    out = width if number == DENSE_CONVOLUTIONS else growth
                    name = f"body.{block}.rdb{dense}.conv{number}"
                    made |= _convolution(name, out, width + (number - 1) * growth)
        for name in ("conv_body", *(f"conv_up{n + 1}" for n in range(self.doublings)), "conv_hr"):
            made |= _convolution(name, width, width)
        return made | _convolution("conv_last", COLOURS, width)


@dataclass(frozen=True, slots=True)
class CompactLayout:
    """SRVGGNetCompact: `convolutions` of one width between the first and the last, each but the last with a PReLU."""

    width: int
    convolutions: int
    scale: int
    names: Mapping[str, str]

    def shapes(self) -> dict[str, Shape]:
        """What every tensor must be."""
        made = _convolution("body.0", self.width, COLOURS) | {"body.1.weight": (self.width,)}
        for number in range(self.convolutions):
            at = 2 + 2 * number
            made |= _convolution(f"body.{at}", self.width, self.width) | {f"body.{at + 1}.weight": (self.width,)}
        return made | _convolution(f"body.{2 + 2 * self.convolutions}", COLOURS * self.scale**2, self.width)


UpscalerLayout = RrdbLayout | CompactLayout


def upscaler_layout(shapes: Shapes) -> UpscalerLayout | str | None:
    """The network of a file; a text that says why it is none that is read; None where it is no upscaler at all."""
    names = _canonical(shapes)
    found = {name: shapes[given] for name, given in names.items()}
    if "conv_first.weight" in found and any(name.startswith("body.0.rdb1.") for name in found):
        layout: UpscalerLayout | None = _rrdb(found, names)
    elif len(found.get("body.0.weight", ())) == 4 and len(found.get("body.1.weight", ())) == 1:
        layout = _compact(found, names)
    else:
        return None
    return "is an upscaler in an unknown variant" if layout is None else _difference(layout, found) or layout


def _difference(layout: UpscalerLayout, found: Shapes) -> str:
    expected = layout.shapes()
    if missing := sorted(expected.keys() - found.keys()):
        return f"is an upscaler without {missing[0]}"
    if unknown := sorted(found.keys() - expected.keys()):
        return f"is an upscaler with {unknown[0]}, which its architecture does not have"
    other = next((name for name, shape in sorted(expected.items()) if found[name] != shape), "")
    return f"is an upscaler whose {other} has shape {found[other]}, not {expected[other]}" if other else ""


def _rrdb(found: Shapes, names: Mapping[str, str]) -> RrdbLayout | None:
    first, dense = found["conv_first.weight"], found.get("body.0.rdb1.conv1.weight", ())
    doublings = sum(f"conv_up{n}.weight" in found for n in range(1, DOUBLINGS_MAX + 1))
    fold = math.isqrt(first[1] // COLOURS) if len(first) == 4 else 0
    if len(dense) != 4 or not doublings or fold not in (1, 2, 4) or fold > 2**doublings:
        return None
    blocks = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("body."))
    return RrdbLayout(first[0], dense[0], blocks, doublings, fold, names)


def _compact(found: Shapes, names: Mapping[str, str]) -> CompactLayout | None:
    numbers = [int(part) for name in found if (part := name.split(".")[1]).isdecimal()]
    last = found.get(f"body.{max(numbers)}.weight", ())
    scale = math.isqrt(last[0] // COLOURS) if len(last) == 4 else 0
    if scale < 1 or max(numbers) < 2:
        return None
    return CompactLayout(found["body.0.weight"][0], max(numbers) // 2 - 1, scale, names)


def _canonical(shapes: Shapes) -> dict[str, str]:
    """The names of Real-ESRGAN for those in a file; what has none keeps its own."""
    plain = {_unwrapped(name): name for name in shapes}
    found: dict[str, str] = {}
    tail = sorted({int(match[1]) for name in plain if (match := _SEQUENTIAL.fullmatch(name))} - {0})
    ends = [*(f"conv_up{n}" for n in range(1, len(tail) - 1)), "conv_hr", "conv_last"]
    sequential = {0: "conv_first", **dict(zip(tail, ends, strict=False))}
    for name, given in plain.items():
        if match := _TRUNK.fullmatch(name):
            found[f"body.{match[1]}.rdb{match[2]}.conv{match[3]}.{match[4]}"] = given
        elif match := _TRUNK_END.fullmatch(name):
            found[f"conv_body.{match[1]}"] = given
        elif match := _SEQUENTIAL.fullmatch(name):
            found[f"{sequential[int(match[1])]}.{match[2]}"] = given
        else:
            module, dot, kind = name.rpartition(".")
            found[_FIRST_RELEASE.get(module, module) + dot + kind] = given
    return found


def _unwrapped(name: str) -> str:
    return next((name.removeprefix(each) for each in _WRAPPERS if name.startswith(each)), name)


def _convolution(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
