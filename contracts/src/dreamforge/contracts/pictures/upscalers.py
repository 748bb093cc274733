"""How an image is enlarged before a second pass, by the names that A1111 has for it. Pure."""

from collections.abc import Mapping

from dreamforge.contracts.models.descriptor import UpscaleMethod

#: Source: A1111 1.10, modules/shared_init.py and modules/upscaler.py. "None" leaves the size to Lanczos there, too.
A1111_LATENT_MODES: Mapping[str, UpscaleMethod] = {
    "Latent": "latent",
    "Latent (antialiased)": "latent_smooth",
    "Latent (bicubic)": "latent_bicubic",
    "Latent (bicubic antialiased)": "latent_bicubic_smooth",
    "Latent (nearest)": "latent_nearest",
    "Latent (nearest-exact)": "latent_nearest_exact",
}
A1111_RESAMPLERS: Mapping[str, UpscaleMethod] = {"None": "lanczos", "Lanczos": "lanczos", "Nearest": "nearest"}
A1111_METHODS: Mapping[str, UpscaleMethod] = {**A1111_RESAMPLERS, **A1111_LATENT_MODES}


def a1111_upscaler(method: str | None) -> str:
    """What A1111 calls a method; None is Lanczos.

    >>> a1111_upscaler("latent_smooth"), a1111_upscaler(None)
    ('Latent (antialiased)', 'Lanczos')
    """
    names = {ours: theirs for theirs, ours in A1111_METHODS.items()}
    return names[method] if method in names else names["lanczos"]
