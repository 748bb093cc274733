"""Do these LoRAs, ControlNets, embeddings and this VAE fit that model? Pure."""

from collections.abc import Collection, Mapping

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor
from dreamforge.contracts.request.embedding_words import embedding_names, words_in
from dreamforge.contracts.request.errors import AssetMismatch, FieldNeeded, NamedTwice, UnknownAsset
from dreamforge.contracts.request.values import EmbeddingUse, LoraUse

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


def require_embeddings(
    uses: tuple[EmbeddingUse, ...], model: ModelDescriptor, models: Models, texts: Collection[str]
) -> tuple[EmbeddingUse, ...]:
    """The uses with their words.

    Errors: UnknownAsset, AssetMismatch, NamedTwice, FieldNeeded for a word that no prompt has.
    """
    words: dict[str, EmbeddingUse] = {}
    for index, use in enumerate(uses):
        require_asset(f"embeddings/{index}/model_id", use.model_id, "embedding", model, models)
        word = use.word or use.model_id
        if word.casefold() in words:
            raise NamedTwice(field=f"embeddings/{index}/word", value=word)
        if not words_in(texts, (word,)):
            raise FieldNeeded("prompt", because=f"embeddings/{index} stands for {word!r}, and no prompt has that word")
        words[word.casefold()] = use.model_copy(update={"word": word})
    return tuple(words.values())


def embeddings_named(texts: Mapping[str, str], model: ModelDescriptor, models: Models) -> tuple[EmbeddingUse, ...]:
    """The embeddings whose names stand in the prompts of a request, which are given by their fields.

    Errors: UnknownAsset and AssetMismatch for `embedding:NAME`, which can mean nothing else.
    """
    fitting = [each for each in models.values() if each.kind == "embedding" and fits(each, model)]
    by_title = {each.title: each.model_id for each in reversed(fitting) if each.title}
    by_word = by_title | {each.model_id: each.model_id for each in fitting}
    found = words_in(texts.values(), by_word)
    known = {word.casefold() for word in found}
    for field, text in texts.items():
        for name in embedding_names(text):
            if name.casefold() not in known:
                require_asset(field, name, "embedding", model, models)
    return tuple(EmbeddingUse(model_id=by_word[word], word=word) for word in found)


def require_upscaler(field: str, model_id: str, models: Models) -> None:
    """Errors: UnknownAsset."""
    found = models.get(model_id)
    if found is None or found.kind != "upscaler":
        known = tuple(each.model_id for each in models.values() if each.kind == "upscaler")
        raise UnknownAsset(field=field, value=model_id, kind="upscaler", known=known)
