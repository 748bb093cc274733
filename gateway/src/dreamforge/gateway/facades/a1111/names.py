"""Models and samplers by the names that A1111 has for them. Pure."""

import re
from collections.abc import Iterable, Mapping

from dreamforge.contracts.models.descriptor import ModelDescriptor, SamplerName
from dreamforge.contracts.pictures.samplers import A1111_SAMPLERS

Models = Mapping[str, ModelDescriptor]
_HASH_CHARS, _CONTROL_HASH_CHARS = 10, 8
_HASHED = re.compile(r"(?P<name>.*?)(?:\.safetensors|\.ckpt)?(?: \[[0-9a-f]+\])?")


def title_of(model: ModelDescriptor) -> str:
    """A model as A1111 lists it: its name and the beginning of its hash."""
    return f"{model.model_id} [{short_hash(model)}]"


def control_title_of(model: ModelDescriptor) -> str:
    """The same of a ControlNet, as its extension lists it."""
    return f"{model.model_id} [{model.digest[:_CONTROL_HASH_CHARS]}]"


def short_hash(model: ModelDescriptor) -> str:
    """The beginning of a model's hash."""
    return model.digest[:_HASH_CHARS]


def pipelines(models: Models) -> tuple[ModelDescriptor, ...]:
    """Those that can be a checkpoint, the default one first."""
    return tuple(model for model in models.values() if model.kind == "pipeline")


def named(name: str, models: Iterable[ModelDescriptor]) -> ModelDescriptor | None:
    """The model of a name: an id, a title, a file name or a hash, as A1111 and its clients write them."""
    found = _HASHED.fullmatch(name.strip())
    plain = (found["name"] if found else name).casefold()
    for model in models:
        if plain == model.model_id.casefold() or name.strip().casefold() in (model.digest, short_hash(model)):
            return model
    return None


def shown_samplers(allowed: Iterable[SamplerName]) -> str:
    """The samplers that a model takes, for an error."""
    each = (A1111_SAMPLERS[name] for name in allowed)
    return ", ".join(f"{name} ({schedule})" if schedule else name for name, schedule in each)
