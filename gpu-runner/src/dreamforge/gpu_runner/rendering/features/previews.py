"""What an image looks like while it is rendered: a linear look at its latents, far cheaper than decoding.

Each latent pixel becomes one pixel: colour = latent channels x matrix + offset. The matrix is fitted once a model to
what its own autoencoder makes of a small random latent. Import this only in the child.
"""

import base64
import io
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from loguru import logger
from PIL import Image
from torch.nn.functional import interpolate

from dreamforge.gpu_runner.rendering.checks import is_video
from dreamforge.gpu_runner.rendering.hooks import RenderFeature, StepWatcher
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.runtime import clock

#: Of the latent that the matrix is fitted to. 24 x 24 are 576 equations for the at most 17 unknowns of a colour.
FIT_SIDE = 24
#: Coarse patches beside the fine noise: an image is mostly smooth, and an autoencoder treats the two differently.
FIT_PATCHES = 6
FIT_SEED = 20_260_102
#: A preview's longer side: smaller ones are enlarged, so that a browser does not show eight squares.
SIDE_PX_MIN, SIDE_PX_MAX = 64, 256
JPEG_QUALITY = 70


@dataclass(frozen=True, slots=True)
class Projection:
    """From latents to colours in [0, 1]. Shapes: matrix (channels, 3), offset (3,); float32."""

    matrix: torch.Tensor
    offset: torch.Tensor

    def look(self, latents: torch.Tensor) -> torch.Tensor:
        """Bytes (h, w, 3) of latents (1, channels, h, w). Nothing here waits for the device."""
        latent = latents[0].float()
        # Some samplers start from noise many times as strong as an image: that would be all black and white.
        latent = latent / latent.std().clamp(min=1.0)
        matrix, offset = (each.to(latent.device, non_blocking=True) for each in (self.matrix, self.offset))
        colours = torch.einsum("chw,ck->hwk", latent, matrix) + offset
        return (colours.clamp(0, 1) * 255).round().to(torch.uint8)


class Previews(RenderFeature):
    """Makes previews for one renderer: it knows every resident model's projection and owns the side thread."""

    def __init__(self) -> None:
        self._projections: WeakKeyDictionary[torch.nn.Module, Projection | None] = WeakKeyDictionary()
        self._side = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preview")

    def watch(self, context: PassContext, pipeline: Pipeline) -> StepWatcher | None:
        """For one pass; None where previews are not wanted, of a tile, and where latents cannot be looked at."""
        every_seconds, current = context.task.preview_seconds, context.current
        vae = pipeline.components.get("vae")
        if every_seconds is None or current.tile is not None or not isinstance(vae, torch.nn.Module):
            return None
        if vae not in self._projections:
            self._projections[vae] = _fit_or_none(vae, getattr(pipeline, "_execution_device", None))
        projection = self._projections[vae]
        if projection is None:
            return None
        return PreviewMaker(projection, every_seconds, self._side, current.width_px, current.height_px).look


@dataclass(slots=True)
class PreviewMaker:
    """One pass's previews: at most one is in the making, and each is given out once."""

    projection: Projection
    every_seconds: float
    side: ThreadPoolExecutor
    width_px: int
    height_px: int
    _looked_at: float = field(default_factory=clock.monotonic_seconds)
    _making: "Future[str] | None" = None
    _broken: bool = False

    def look(self, pipeline: Any, latents: torch.Tensor) -> str | None:
        """Look, if it is time; the preview that has become ready since the last call, as a data URI.

        Any: pipelines that pack their latents have a method of their own to unpack them. Never waits, never raises
        for a preview's sake: the image matters more.
        """
        ready = self._ready()
        now = clock.monotonic_seconds()
        if self._making is None and not self._broken and now - self._looked_at >= self.every_seconds:
            self._looked_at = now
            try:
                colours = self.projection.look(
                    unpacked(pipeline, latents, width_px=self.width_px, height_px=self.height_px)
                )
            except Exception as error:
                self._broken = True
                logger.warning("no previews of {}: {}", type(pipeline).__name__, error)
            else:
                self._making = self.side.submit(_data_uri, colours)
        return ready

    def _ready(self) -> str | None:
        if self._making is None or not self._making.done():
            return None
        made, self._making = self._making, None
        return None if made.exception() else made.result()


def unpacked(
    pipeline: Any, latents: torch.Tensor, *, width_px: int, height_px: int
) -> torch.Tensor:  # Any: see PreviewMaker
    """Latents as (1, channels, h, w), also where a transformer holds them as a row of tokens (FLUX).

    Of a video those of its first frame, whose latents stand for one frame alone.
    """
    if latents.ndim == 5:
        return latents[:1, :, 0]
    if latents.ndim == 3 and is_video(pipeline):
        frames: torch.Tensor = _video_latents(pipeline, latents, width_px=width_px, height_px=height_px)
        return frames[:1, :, 0]
    if latents.ndim == 3:
        image: torch.Tensor = pipeline._unpack_latents(latents, height_px, width_px, pipeline.vae_scale_factor)
        return image[:1]
    if latents.ndim != 4:
        raise ValueError(f"latents of {latents.ndim} dimensions")
    return latents[:1]


def _video_latents(
    pipeline: Any, latents: torch.Tensor, *, width_px: int, height_px: int
) -> Any:  # Any: see PreviewMaker
    """(1, channels, frames, h, w) of LTX's row of tokens."""
    scale = pipeline.vae_spatial_compression_ratio
    patch, patch_frames = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
    high, wide = height_px // scale // patch, width_px // scale // patch
    return pipeline._unpack_latents(latents, latents.shape[1] // (high * wide), high, wide, patch, patch_frames)


def fit(vae: Any, device: torch.device | None = None) -> Projection:  # Any: diffusers' autoencoders have no common type
    """The projection that comes nearest, by least squares, to what this autoencoder decodes.

    Errors: whatever an autoencoder of another kind raises; ValueError if what it gives are no numbers.
    """
    parameter = next(vae.parameters())
    config = vae.config
    channels = int(config.get("latent_channels") or config.z_dim)
    generator = torch.Generator("cpu").manual_seed(FIT_SEED)  # no other generator is advanced
    coarse = torch.randn(1, channels, FIT_PATCHES, FIT_PATCHES, generator=generator)
    fine = torch.randn(1, channels, FIT_SIDE, FIT_SIDE, generator=generator)
    # Variances add up to one, a finished latent's.
    latents = 0.8**0.5 * interpolate(coarse, size=FIT_SIDE, mode="nearest") + 0.2**0.5 * fine
    scaled = _as_decoded(vae, latents).to(device or parameter.device, parameter.dtype)
    with torch.inference_mode():
        if reads_frames(vae):
            decoded = vae.decode(scaled[:, :, None], *_decode_time(vae, scaled), return_dict=False)[0][:, :, 0]
        else:
            decoded = vae.decode(scaled, return_dict=False)[0]
    # An autoencoder gives [-1, 1].
    colours = interpolate(decoded.float().cpu() / 2 + 0.5, size=FIT_SIDE, mode="area").clamp(0, 1)
    if not bool(torch.isfinite(colours).all()):
        raise ValueError("decoding gives no numbers")
    known = torch.cat([latents, torch.ones(1, 1, FIT_SIDE, FIT_SIDE)], dim=1)[0].flatten(1).T
    solution = torch.linalg.lstsq(known, colours[0].flatten(1).T).solution
    return Projection(solution[:-1].contiguous(), solution[-1].contiguous())


def reads_frames(vae: Any) -> bool:  # Any: see `fit`
    """Whether its latents have frames."""
    return any(isinstance(module, torch.nn.Conv3d) for module in vae.modules())


def _as_decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:  # Any: see `fit`
    """Latents of a denoiser as the autoencoder reads them: scaled by a number, or channel by channel."""
    config = vae.config
    scaled = latents / float(config.get("scaling_factor") or 1.0) + float(config.get("shift_factor") or 0.0)
    mean, std = (_channels(vae, name) for name in ("latents_mean", "latents_std"))
    return scaled if mean is None or std is None else scaled * std + mean


def _channels(vae: Any, name: str) -> torch.Tensor | None:  # Any: see `fit`
    """A number for each channel, from its configuration (Wan) or its buffers (LTX)."""
    found = vae.config.get(name)
    if found is None:
        found = getattr(vae, name, None)
    return None if found is None else torch.as_tensor(found).float().cpu().view(1, -1, 1, 1)


def _decode_time(vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:  # Any: see `fit`
    """What an autoencoder that reads the time needs: its end."""
    needed = vae.config.get("timestep_conditioning")
    return (torch.zeros(1, device=latents.device, dtype=latents.dtype),) if needed else ()


def _fit_or_none(vae: torch.nn.Module, device: torch.device | None) -> Projection | None:
    try:
        return fit(vae, device)
    except Exception as error:
        logger.warning("no previews with {}: {}", type(vae).__name__, error)
        return None


def _data_uri(colours: torch.Tensor) -> str:
    """In the side thread: only here is waited until the device has the bytes."""
    image = Image.fromarray(colours.cpu().numpy())
    longer_px = max(image.size)
    factor = min(max(longer_px, SIDE_PX_MIN), SIDE_PX_MAX) / longer_px
    if factor != 1:
        size = tuple(max(1, round(side * factor)) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
