"""Networks that enlarge images, loaded from their files and kept: the last one used. Import this only in the child."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.functional import pad

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import ModelFiles
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, first_line
from dreamforge.gpu_runner.rendering.tiling import enlarged_in_tiles
from dreamforge.gpu_runner.rendering.upscaler_nets import UpscalerNet, network_of
from dreamforge.runtime.storage.model_inspection import lone_file
from dreamforge.runtime.storage.upscaler_layout import upscaler_layout


@dataclass(frozen=True, slots=True)
class LoadedUpscaler:
    """A network on its device."""

    net: UpscalerNet
    device: torch.device

    @property
    def size_bytes(self) -> int:
        """What its weights take."""
        return sum(each.numel() * each.element_size() for each in self.net.parameters())

    def enlarged(self, image: Image.Image) -> Image.Image:
        """An image of mode RGB, `scale` times as large, in the memory of one tile. In float32 on every device."""
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            found = enlarged_in_tiles(pixels, self._enlarge, self.net.scale)
        return Image.fromarray(found.numpy())

    def _enlarge(self, tile: torch.Tensor) -> torch.Tensor:
        """A tile whose sides are no multiples of what the network folds is continued by its edge meanwhile."""
        height, width = tile.shape[2:]
        fold, scale = self.net.fold, self.net.scale
        whole = pad(tile.to(self.device), (0, -width % fold, 0, -height % fold), mode="replicate")
        large: torch.Tensor = self.net(whole)
        return large[:, :, : height * scale, : width * scale]


class UpscalerCache:
    """The last upscaler used stays on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: tuple[ModelFiles, LoadedUpscaler] | None = None

    def __contains__(self, files: ModelFiles) -> bool:
        return self._loaded is not None and self._loaded[0] == files

    def get(self, model_id: str, files: ModelFiles) -> LoadedUpscaler:
        """The network of these files. Errors: RenderFailed (model_missing, model_broken)."""
        if self._loaded is None or self._loaded[0] != files:
            self._loaded = None
            self._loaded = files, LoadedUpscaler(_read(model_id, Path(files.path)).to(self._device), self._device)
        return self._loaded[1]

    def release(self) -> None:
        """Let it go."""
        self._loaded = None


def _read(model_id: str, path: Path) -> UpscalerNet:
    try:
        file = path if path.is_file() else lone_file(path)
        tensors = load_file(file) if file is not None else {}
    except (SafetensorError, OSError) as error:
        raise _broken(model_id, first_line(error)) from error
    layout = upscaler_layout({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if layout is None or isinstance(layout, str):
        raise _broken(model_id, layout or "is no upscaler that is read here")
    net = network_of(layout)
    net.load_state_dict({name: tensors[given].float() for name, given in layout.names.items()})
    return net.eval().requires_grad_(False)


def _broken(model_id: str, why: str) -> RenderFailed:
    return RenderFailed(FailureReason.MODEL_BROKEN, f"upscaler {model_id} does not load: {why}")
