"""Do these LoRAs, ControlNets and this VAE fit that model? Pure."""

from collections.abc import Mapping

from dreamforge.contracts.errors import AssetMismatch, NamedTwice, UnknownAsset
from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor
from dreamforge.contracts.request.values import LoraUse

Models = Mapping[str, ModelDescriptor]


# Stable Diffusion 2 has the latents of the first, and so its VAEs.
_VAE_FAMILY = {"stable-diffusion-2": "stable-diffusion"}


def fits(asset: ModelDescriptor, model: ModelDescriptor) -> bool:
    """Whether an asset was made for models of this family."""
    its, own = asset.base_family, model.base_family
    if asset.kind == "vae":
        return _VAE_FAMILY.get(its, its) == _VAE_FAMILY.get(own, own)
    return its == own


def require_loras(loras: tuple[LoraUse, ...], model: ModelDescriptor, models: Models) -> None:
    """Errors: UnknownAsset, NamedTwice, AssetMismatch; each names the field (`loras/1/model_id`)."""
    before: set[str] = set()
    for index, lora in enumerate(loras):
        field = f"loras/{index}/model_id"
        require_asset(field, lora.model_id, "lora", model, models)
        if lora.model_id in before:
            raise NamedTwice(field=field, value=lora.model_id)
        before.add(lora.model_id)


def require_asset(field: str, asset_id: str, kind: Kind, model: ModelDescriptor, models: Models) -> None:
    """Errors: UnknownAsset, AssetMismatch."""
    asset = models.get(asset_id)
    if asset is None or asset.kind != kind:
        fitting = (each for each in models.values() if each.kind == kind and fits(each, model))
        raise UnknownAsset(field=field, value=asset_id, kind=kind, known=tuple(each.model_id for each in fitting))
    if not fits(asset, model):
        raise AssetMismatch(
            field=field,
            value=asset_id,
            asset_family=asset.family,
            model_id=model.model_id,
            model_family=model.family,
        )


def require_upscaler(field: str, model_id: str, models: Models) -> None:
    """Errors: UnknownAsset."""
    found = models.get(model_id)
    if found is None or found.kind != "upscaler":
        known = tuple(each.model_id for each in models.values() if each.kind == "upscaler")
        raise UnknownAsset(field=field, value=model_id, kind="upscaler", known=known)
