"""What can be painted: model descriptors, their presets and what they need of a GPU, as values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# One token of a NATS subject: no dots, blanks or wildcards. 64 characters is our bound, not NATS's.
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Value(BaseModel):
    """Base of every frozen value that crosses a border."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", protected_namespaces=()
    )


class VramProfile(Value):
    """Coefficients of the memory a model needs; see `vram.estimate_vram_bytes`."""

    resident_bytes: int = Field(ge=0, description="weights and persistent buffers in GPU memory")
    denoise_bytes_per_latent: int = Field(ge=0, description="peak activations of one step, per latent pixel")
    decode_bytes_per_px: int = Field(ge=0, description="peak activations of the image decoder, per output pixel")
    overhead_bytes: int = Field(default=0, ge=0, description="context and workspace that any render needs")
    vae_scale: int = Field(default=8, ge=1, description="output pixels per latent pixel, along one side")


class Preset(Value):
    """A named way to use a model: what a request gets when it does not say."""

    name: Token
    title: str = ""
    width_px: int = Field(ge=8)
    height_px: int = Field(ge=8)
    steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=0)


class ModelDescriptor(Value):
    """A model as the registry knows it. The first preset is the default one."""

    model_id: Token
    title: str = ""
    family: Token
    licence: str = "unknown"
    digest: Sha256
    size_multiple_px: int = Field(default=8, ge=1)
    side_px_min: int = Field(default=32, ge=8)
    side_px_max: int = Field(default=1024, ge=8)
    vram: VramProfile
    presets: Annotated[tuple[Preset, ...], Field(min_length=1)]

    def preset(self, name: str) -> Preset | None:
        """The preset of this name, or None."""
        return next((p for p in self.presets if p.name == name), None)
