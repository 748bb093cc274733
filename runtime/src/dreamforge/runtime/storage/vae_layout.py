"""What an autoencoder alone is, from the names and shapes of its tensors. Pure.

Its tensors are named as diffusers does (`decoder.up_blocks.0.…`) or as in the first releases of Stable Diffusion
(`decoder.up.0.…`, in a checkpoint behind `first_stage_model.`), in which they are passed around.
"""

from collections.abc import Iterable

#: The prefix of an autoencoder's tensors in a checkpoint, which some files keep.
PREFIX = "first_stage_model."
#: The tensors that every autoencoder of this kind has, in both namings.
NEEDED = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
#: The family of an autoencoder, by the channels of its latents and the factor that its latents are multiplied by.
#: Source: vae/config.json of stable-diffusion-v1-5, stable-diffusion-xl-base-1.0, SD3 medium and FLUX.1-dev.
FAMILY_OF_LATENTS: dict[tuple[int, float], str] = {
    (4, 0.18215): "stable-diffusion",
    (4, 0.13025): "stable-diffusion-xl",
    (16, 1.5305): "stable-diffusion-3",
    (16, 0.3611): "flux",
}
#: What diffusers takes where a configuration does not say (`AutoencoderKL.__init__`).
DEFAULT_LATENTS: dict[str, int | float] = {"latent_channels": 4, "scaling_factor": 0.18215}


def is_vae(names: Iterable[str]) -> bool:
    """Whether a file holds an autoencoder and nothing else."""
    plain = {name.removeprefix(PREFIX) for name in names}
    parts = {name.partition(".")[0] for name in plain}
    return plain.issuperset(NEEDED) and not parts - {"encoder", "decoder", "quant_conv", "post_quant_conv"}
