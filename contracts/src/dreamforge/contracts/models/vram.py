"""VRAM arithmetic: what a render needs, computed without touching a GPU."""

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.models.descriptor import VramProfile


def estimate_vram_bytes(profile: VramProfile, *, batch: int, height_px: int, width_px: int, frames: int = 1) -> int:
    """Peak GPU memory that one render needs, so that `plan` can place it.

    peak = overhead + resident + batch * max(denoise_per_latent * h * w * f, (decode_per_px + frame_per_px * F) * H * W)

    Shapes: latent (batch, C, f, h, w) with h = H / vae_scale and f = 1 + (F - 1) / frames_per_latent; decoded
    (batch, 3, F, H, W). The autoencoder of a video decodes latent frames one by one, and keeps what it made.
    Units:  pixels in, bytes out, integer arithmetic; 1 GiB = 2**30.
    Errors: SizeNotSupported unless each side is a positive multiple of vae_scale.

    >>> estimate_vram_bytes(VramProfile(resident_bytes=100, denoise_bytes_per_latent=10,
    ...     decode_bytes_per_px=1, vae_scale=8), batch=2, height_px=16, width_px=8)
    356
    """
    scale = profile.vae_scale
    if min(height_px, width_px) <= 0 or height_px % scale or width_px % scale:
        raise SizeNotSupported(height_px=height_px, width_px=width_px, multiple_px=scale)
    latent_frames = 1 + (frames - 1) // profile.frames_per_latent
    denoise = profile.denoise_bytes_per_latent * (height_px // scale) * (width_px // scale) * latent_frames
    decode = (profile.decode_bytes_per_px + profile.frame_bytes_per_px * frames) * height_px * width_px
    return profile.overhead_bytes + profile.resident_bytes + batch * max(denoise, decode)


def images_that_fit(profile: VramProfile, budget_bytes: int, *, height_px: int, width_px: int, frames: int = 1) -> int:
    """How many images can be rendered in one run within a budget; at least 1, since that is what placement decides.

    Errors: SizeNotSupported.

    >>> images_that_fit(VramProfile(resident_bytes=100, denoise_bytes_per_latent=10,
    ...     decode_bytes_per_px=1, vae_scale=8), 500, height_px=16, width_px=8)
    3
    """
    one, two = (
        estimate_vram_bytes(profile, batch=batch, height_px=height_px, width_px=width_px, frames=frames)
        for batch in (1, 2)
    )
    more = two - one
    return 1 + max(0, budget_bytes - one) // max(1, more)
