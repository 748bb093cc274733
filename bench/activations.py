"""Peak activations of one forward pass, from configuration alone: on the `meta` device there are shapes and no memory.

What `FAMILY_DEFAULTS` says of videos is made of these numbers, with 15 % more: two sizes give the slope, from which the
weights fall out. Attention counts as one that keeps no scores, as those of a GPU do.

Usage: python -m bench.activations
"""

import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

diffusers: Any = import_module("diffusers")  # Any: its classes have no types
HALF: Any = {"device": "meta", "dtype": torch.bfloat16}


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's modes have no types
    """Counts the storages that are alive; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak, self._live, self._sizes = 0, 0, dict[int, int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any: as torch has it."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._live += storage.nbytes()
            self.peak = max(self.peak, self._live)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self._live -= self._sizes.pop(key, 0)


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes at once while `run` runs, the weights that it reads included."""
    with torch.no_grad(), LiveBytes() as live:
        run()
    peak: int = live.peak
    return peak


def slope(run: Callable[[int], object], one: int, two: int, each: int) -> float:
    """Bytes for each of `each` units of a latent frame more."""
    return (peak_bytes(lambda: run(two)) - peak_bytes(lambda: run(one))) / ((two - one) * each)


def wan(heads: int, feed_forward: int, layers: int, channels: int, high: int, wide: int) -> float:
    """Bytes per latent of a transformer of Wan."""
    with torch.device("meta"):
        made = diffusers.WanTransformer3DModel(
            num_attention_heads=heads, ffn_dim=feed_forward, num_layers=layers, in_channels=channels,
            out_channels=channels,
        ).to(torch.bfloat16)  # fmt: skip

    def run(frames: int) -> object:
        return made(
            hidden_states=torch.empty(1, channels, frames, high, wide, **HALF),
            timestep=torch.empty(1, device="meta"),
            encoder_hidden_states=torch.empty(1, 512, 4096, **HALF),
        )

    return slope(run, 11, 21, high * wide)


def ltx() -> float:
    """Bytes per latent of LTX's transformer, guided: both passes are one batch."""
    with torch.device("meta"):
        made = diffusers.LTXVideoTransformer3DModel().to(torch.bfloat16)
    high, wide = 15, 22

    def run(frames: int) -> object:
        return made(
            hidden_states=torch.empty(2, frames * high * wide, 128, **HALF),
            encoder_hidden_states=torch.empty(2, 128, 4096, **HALF),
            timestep=torch.empty(2, device="meta"),
            encoder_attention_mask=torch.empty(2, 128, device="meta"),
            num_frames=frames,
            height=high,
            width=wide,
            rope_interpolation_scale=(8 / 24, 32, 32),
        )

    return slope(run, 8, 16, high * wide)


def decoded(vae: Any, channels: int, frames: int, high: int, wide: int, scale: int) -> float:
    """Bytes per pixel of one frame while an autoencoder decodes so many latent frames."""
    times = (torch.zeros(1, **HALF),) if vae.config.get("timestep_conditioning") else ()
    run = peak_bytes(lambda: vae.decode(torch.empty(1, channels, frames, high, wide, **HALF), *times))
    return run / (high * wide * scale**2)


def main() -> None:
    """Print the numbers."""
    functional.scaled_dot_product_attention = lambda query, *_, **__: torch.empty_like(query)
    print(f"wan 14B            {wan(40, 13824, 40, 16, 60, 104):10.0f} bytes per latent")
    print(f"wan 1.3B           {wan(12, 8960, 30, 16, 60, 104):10.0f}")
    print(f"wan 2.2 5B         {wan(24, 14336, 30, 48, 44, 80):10.0f}")
    print(f"ltx 2B             {ltx():10.0f}")
    with torch.device("meta"):
        small = {"base_dim": 160, "decoder_base_dim": 256, "is_residual": True, "in_channels": 12, "out_channels": 12}
        vaes: dict[str, tuple[Any, int, int]] = {
            "wan": (diffusers.AutoencoderKLWan(), 16, 8),
            "wan 2.2 5B": (
                diffusers.AutoencoderKLWan(z_dim=48, patch_size=2, scale_factor_spatial=16, **small),
                48,
                16,
            ),
            "ltx": (diffusers.AutoencoderKLLTXVideo(), 128, 32),
        }
    for name, (vae, channels, scale) in vaes.items():
        vae.to(torch.bfloat16)
        each = [decoded(vae, channels, frames, 15, 26, scale) for frames in (3, 9)]
        print(f"{name:10} decodes {each[0]:10.0f} bytes per pixel of a frame, 3 latent frames; {each[1]:.0f}, 9")


if __name__ == "__main__":
    main()
