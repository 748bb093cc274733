"""The models of this installation by the names that a workflow gives them. Pure."""

from collections.abc import Iterable, Mapping

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor

_FILES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".sft", ".gguf")
FOLDERS: Mapping[str, Kind] = {
    "checkpoints": "pipeline",
    "diffusion_models": "pipeline",
    "unet": "pipeline",
    "text_encoders": "pipeline",
    "clip": "pipeline",
    "vae": "vae",
    "loras": "lora",
    "controlnet": "controlnet",
    "embeddings": "embedding",
    "style_models": "ip_adapter",
    "clip_vision": "ip_adapter",
    "ipadapter": "ip_adapter",
}
"""The folders of ComfyUI that have something here. A pipeline is whole: its parts are found under its name."""


def named(kind: Kind, models: Iterable[ModelDescriptor]) -> tuple[str, ...]:
    """The ids of the models of a kind, which is how they are listed."""
    return tuple(model.model_id for model in models if model.kind == kind)


def model_named(name: str, kind: Kind, models: Mapping[str, ModelDescriptor]) -> ModelDescriptor | None:
    """The model that a workflow names: by its id, as a file of that name in any folder, or by its title."""
    file = name.replace("\\", "/").rpartition("/")[2]
    stem = next((file[: -len(end)] for end in _FILES if file.lower().endswith(end)), file)
    for wanted in (name, stem):
        if wanted in models and models[wanted].kind == kind:
            return models[wanted]
    return next((model for model in models.values() if model.kind == kind and name and model.title == name), None)
