"""Weights of a model that is in memory, quantised by SDNQ, an extra of the runner. Only in the child."""

import importlib
from importlib.metadata import version
from typing import Any, Literal

from dreamforge.contracts.models.descriptor import QuantisedWeights
from dreamforge.gpu_runner.rendering import eight_bit_layers
from dreamforge.runtime.storage.quantised import how_to_install, is_installed

QUANTISER = "sdnq"


def quantise(denoiser: Any, weights: Literal["uint4"]) -> None:  # Any: a class of each family
    """Quantise the linear layers of a denoiser where it is, which should be the host's memory, one after the other.

    Convolutions, embeddings and what SDNQ knows to be sensitive in this class stay as they are. Groups of weights
    share a scale; SDNQ chooses their size. Errors: ImportError without the quantiser.
    """
    library: Any = importlib.import_module(QUANTISER)  # Any: it has no types
    library.sdnq_post_load_quant(denoiser, weights_dtype=weights, torch_dtype=denoiser.dtype)


def quantiser_refusal(denoiser: Any) -> str | None:  # Any: as above
    """Why the weights of a denoiser cannot be quantised; None: they can."""
    if denoiser is None:
        return "it has no denoiser"
    if getattr(denoiser, "quantization_config", None) or getattr(denoiser, "hf_quantizer", None):
        return "its weights are quantised already"
    return None if is_installed(QUANTISER) else f"{QUANTISER} is not installed: {how_to_install(QUANTISER)}"


def quantiser_versions(weights: QuantisedWeights | None) -> dict[str, str]:
    """What a recipe of an image says of the quantiser of its model, whose code decides pixels; None: it has none."""
    if weights is None:
        return {}
    package = QUANTISER if weights == "uint4" else eight_bit_layers.QUANTISER
    return {package: version(package)}
