"""IP-Adapters fitted to a U-Net: layers that read an image beside the text, and the encoders that look at images.

diffusers' `load_ip_adapter` leaves other attention processors behind when it is undone. Here its converters make the
layers, and what was in their places is put back after each run. Import this only in the child.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.image_prompts import normalised
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, read_part
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, first_line
from dreamforge.gpu_runner.rendering.weights import inspected
from dreamforge.runtime.storage.ip_adapter_layout import ENCODER, LAYERS, PROJECTION, Reads, reads_of
from dreamforge.runtime.storage.model_inspection import lora_file

#: Mean and standard deviation of CLIP's colours (openai/CLIP, clip/clip.py, `_transform`).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: Where a projection's first weight has the width of what it reads.
WIDTH_AT = {"proj.weight": 1, "proj.0.weight": 1, "proj_in.weight": 1}

#: The tensors of a file by its two groups.
Groups = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """What looks at an image for one adapter."""

    model: Any  # Any: transformers' classes have no types
    reads: Reads
    report: LoadReport

    @property
    def side_px(self) -> int:
        """Of the square that it looks at."""
        return int(self.model.config.image_size)

    def seen(self, image: Image.Image) -> torch.Tensor:
        """An image as the adapter reads it, after the same of no image, for the negative prompt.

        Shapes: the image is a square of `side_px`; (2, 1, width) or (2, 1, patches, width) comes out.
        """
        pixels = normalised(image, MEAN, STD).to(self.model.device, self.model.dtype)
        if self.reads == "image":
            found = self.model(pixels).image_embeds
            return torch.stack([torch.zeros_like(found), found])
        return torch.stack([self._patches(torch.zeros_like(pixels)), self._patches(pixels)])

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last layer but one, as IP-Adapters for patches were trained with."""
        states: torch.Tensor = self.model(pixels, output_hidden_states=True).hidden_states[-2]
        return states


@dataclass(frozen=True, slots=True, eq=False)
class FittedAdapters:
    """Adapters for one U-Net, in the order of their uses; one that is used twice is there once."""

    keys: tuple[ModelKey, ...]
    dtype: torch.dtype
    unet: "ref[Any]"
    encoders: tuple[Encoder, ...]
    #: By their places in the U-Net: the processors of its cross-attention.
    processors: Mapping[str, Any]
    projection: Any

    def fits(self, keys: Sequence[ModelKey], unet: Any) -> bool:  # Any: see Encoder
        """Whether these are the adapters of a run."""
        return bool(self.dtype == unet.dtype) and self.keys == tuple(keys) and self.unet() is unet

    def set_scales(self, scales: Sequence[float]) -> None:
        """How much each counts from now on; 0: it is not computed."""
        for processor in self.processors.values():
            processor.scale = list(scales)

    @contextmanager
    def installed(self, device: torch.device) -> Iterator[None]:
        """While inside, the U-Net reads images; afterwards it is what it was."""
        unet: Any = self.unet()
        own, projection, kind = dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
        # A model that waits in the host's memory takes them along when it goes back there.
        moved = {name: each.to(device) for name, each in self.processors.items()}
        try:
            unet.set_attn_processor({**own, **moved})
            # After the processors, and away before them: a projection can have attention of its own.
            unet.encoder_hid_proj = self.projection.to(device)
            unet.config.encoder_hid_dim_type = "ip_image_proj"
            yield
        finally:
            unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = projection, kind
            unet.set_attn_processor(own)


def fitted_adapters(keys: Sequence[ModelKey], unet: Any, device: torch.device) -> FittedAdapters:  # Any: see Encoder
    """Read adapters and make their layers. Errors: RenderFailed (model_broken; invalid_request of another base)."""
    once = list(dict.fromkeys(keys))
    files = [_groups(key) for key in once]
    encoders = [_encoder(key, groups, device, unet.dtype) for key, groups in zip(once, files, strict=True)]
    processors, projections = _layers(once, files, unet)
    places = [once.index(key) for key in keys]
    projection = MultiIPAdapterImageProjection([projections[place] for place in places])
    for processor in processors.values():
        processor.to_k_ip = torch.nn.ModuleList([processor.to_k_ip[place] for place in places])
        processor.to_v_ip = torch.nn.ModuleList([processor.to_v_ip[place] for place in places])
        processor.to(device, unet.dtype)
    return FittedAdapters(
        tuple(keys),
        unet.dtype,
        ref(unet),
        tuple(encoders[place] for place in places),
        processors,
        projection.to(device, unet.dtype),
    )


def _groups(key: ModelKey) -> Groups:
    """Errors: RenderFailed(model_broken)."""
    inspected(key.model_id, key.path)
    try:
        tensors = load_file(lora_file(key.path))
    except (SafetensorError, OSError) as error:
        message = f"IP-Adapter {key.model_id} does not load: {first_line(error)}"
        raise RenderFailed(FailureReason.MODEL_BROKEN, message) from error
    return {
        start.removesuffix("."): {
            name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)
        }
        for start in (PROJECTION, LAYERS)
    }


def _encoder(key: ModelKey, groups: Groups, device: torch.device, dtype: torch.dtype) -> Encoder:
    report = LoadReport()
    try:
        model = read_part(CLIPVisionModelWithProjection, key.path / ENCODER, ENCODER, dtype, report)
    except WeightsWrong as error:
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"IP-Adapter {key.model_id} does not load: {error}") from error
    projection = groups["image_proj"]
    reads = reads_of(f"{PROJECTION}{name}" for name in projection)
    assert reads is not None, "an inspected file is of a kind that is read"
    gives = model.config.projection_dim if reads == "image" else model.config.hidden_size
    read = next(projection[name].shape[axis] for name, axis in WIDTH_AT.items() if name in projection)
    if read != gives:
        message = (
            f"IP-Adapter {key.model_id} does not load: it reads vectors of {read}, its image encoder gives {gives}"
        )
        raise RenderFailed(FailureReason.MODEL_BROKEN, message)
    return Encoder(model.to(device), reads, report)


def _layers(
    keys: Sequence[ModelKey], files: Sequence[Groups], unet: Any
) -> tuple[dict[str, Any], list[Any]]:  # Any: see Encoder
    """The processors of cross-attention by their places, and a projection for each adapter."""
    try:
        with torch.random.fork_rng(devices=[]):  # modules are filled with random numbers before they are loaded
            made = unet._convert_ip_adapter_attn_to_diffusers(list(files), low_cpu_mem_usage=False)
            projections = [
                unet._convert_ip_adapter_image_proj_to_diffusers(each["image_proj"], low_cpu_mem_usage=False)
                for each in files
            ]
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        names = ", ".join(key.model_id for key in keys)
        message = f"IP-Adapter {names} does not fit this model: {' '.join(str(error).split())[:200]}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error
    return {name: each for name, each in made.items() if hasattr(each, "to_k_ip")}, projections
