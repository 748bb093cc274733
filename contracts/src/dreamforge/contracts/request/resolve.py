"""From what a client gave to a complete request: defaults are filled in, bounds are checked. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.models.descriptor import JOB_KINDS, ModelDescriptor, Preset, Value
from dreamforge.contracts.request.bounds import refusing
from dreamforge.contracts.request.declaration import Draft, RequestParameter
from dreamforge.contracts.request.errors import FieldNeeded, NamedTwice, NotAPipeline, UnknownModel, UnknownPreset
from dreamforge.contracts.request.image_size import ImageSizes, image_sides
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.lora_tags import FIELD, without_lora_tags
from dreamforge.contracts.request.parameters import PARAMETERS
from dreamforge.contracts.request.render_request import RenderRequest

Models = Mapping[str, ModelDescriptor]
Given = Mapping[str, Any]  # Any: values of the types that the parameters declare
_CHOSEN = frozenset(each.name for each in PARAMETERS if each.declared.source == "caller")
_DEFAULTS = {each.name: each.default for each in PARAMETERS if each.declared.source == "declared"}
_FROM_PRESET = tuple(each.name for each in PARAMETERS if each.declared.source == "preset")
_COMPLETE = tuple((each.name, each.declared.complete) for each in PARAMETERS if each.declared.complete is not None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one model allows: made once, because submissions are many and models are few."""

    model: ModelDescriptor
    limits: Limits
    checks: tuple[tuple[str, Callable[[Any], None]], ...]
    """Parameter, and what raises an error for a wrong value."""
    defaults: Mapping[str, Any]
    """Of the parameters that neither the caller nor a preset fills."""
    required: tuple[str, ...]
    needs: tuple[tuple[str, str], ...]
    """(parameter, the one without which the model does not take it)"""

    @classmethod
    def of(cls, model: ModelDescriptor, limits: Limits) -> "Rules":
        """The rules of a pipeline."""
        can = model.capabilities
        checks = ((each.name, _checker(each, model, limits)) for each in PARAMETERS if each.name not in _CHOSEN)
        return cls(
            model,
            limits,
            tuple((name, check) for name, check in checks if check is not None),
            _DEFAULTS | {each.name: usual(can) for each in PARAMETERS if (usual := each.declared.usual) is not None},
            tuple(each.name for each in PARAMETERS if each.declared.required(can)),
            tuple((each.name, needed) for each in PARAMETERS if (needed := each.declared.needs(can))),
        )


NONE_READ: ImageSizes = {}
# What a parameter is that no request has set, and no default.
_UNSET = (None, ())
# One entry a model id, replaced when the registry has another descriptor for it.
_RULES: dict[str, Rules] = {}


def resolve(given: Given, models: Models, limits: Limits, image_sizes: ImageSizes = NONE_READ) -> RenderRequest:
    """Fill a request from its preset and check it against model and limits. `given` needs a prompt and a seed. Pure.

    The default model is the pipeline that was registered first, the default preset the model's first. A request that
    takes the size of its image needs that image in `image_sizes`, else ImageSizeNeeded says which.
    Errors: UnknownModel, NotAPipeline, UnknownPreset, OutOfBounds(field, value, minimum, maximum), SizeNotSupported,
    NotAllowed, FieldNeeded, UnknownAsset, AssetMismatch, NamedTwice, and of tags in the prompt UnknownLora and
    LoraTagUnsupported.
    """
    model, preset = _chosen(given, models)
    given = _with_tagged_loras(given, models)
    rules = _rules(model, limits)
    values = _filled(given, model, preset, rules.defaults) | image_sides(given, model, limits, image_sizes)
    for name, check in rules.checks:
        value = values[name]
        if value not in _UNSET:
            check(value)
    _require_together(values, rules)
    draft = Draft(values, model, models, limits, image_sizes)
    for name, complete in _COMPLETE:
        values[name] = complete(values[name], draft)
    return RenderRequest(**values)


def _with_tagged_loras(given: Given, models: Models) -> Given:
    """The LoRAs of the prompt's tags after those of the field; one that both name is refused.

    Errors: those of `without_lora_tags`, NamedTwice, FieldNeeded for a prompt of tags alone.
    """
    prompt, tagged = without_lora_tags(given["prompt"], models)
    if prompt == given["prompt"]:
        return given
    if not prompt:
        raise FieldNeeded(FIELD, because="without its LoRA tags it is empty")
    own = tuple(given.get("loras") or ())
    for use in tagged:
        if any(use.model_id == each.model_id for each in own):
            raise NamedTwice(field=FIELD, value=use.model_id)
    return {**given, "prompt": prompt, "loras": (*own, *tagged)}


def inputs_of(request: RenderRequest) -> dict[str, Any]:  # Any: JSON
    """The body that resolves to this request again, with all that a preset could change."""
    return {name: _json(value) for name, value in _restated(request)}


def _restated(request: RenderRequest) -> Iterator[tuple[str, Any]]:
    for each in PARAMETERS:
        value, restate = getattr(request, each.name), each.declared.restate
        again = restate(value, request) if restate else value
        if again != each.default:
            yield each.name, again


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    return value.model_dump(mode="json") if isinstance(value, Value) else value


def _rules(model: ModelDescriptor, limits: Limits) -> Rules:
    rules = _RULES.get(model.model_id)
    if rules is None or rules.model is not model or rules.limits is not limits:
        rules = _RULES[model.model_id] = Rules.of(model, limits)
    return rules


def _chosen(given: Given, models: Models) -> tuple[ModelDescriptor, Preset]:
    model_id, name = given.get("model_id"), given.get("preset")
    if model_id is None:
        model_id = next((each for each, model in models.items() if model.kind == "pipeline"), "")
    model = models.get(model_id)
    if model is None or model.kind not in JOB_KINDS:
        known = tuple(each for each, model in models.items() if model.kind == "pipeline")
        if model is None:
            raise UnknownModel(model_id=model_id, known=known)
        raise NotAPipeline(model_id=model_id, kind=model.kind, known=known)
    preset = model.presets[0] if name is None else model.preset(name)
    if preset is None:
        raise UnknownPreset(preset=str(name), model_id=model_id, known=tuple(each.name for each in model.presets))
    return model, preset


def _filled(given: Given, model: ModelDescriptor, preset: Preset, defaults: Given) -> dict[str, Any]:
    """Every parameter with a value: the given one, or its default."""
    values = {"model_id": model.model_id, "preset": preset.name, "seed": given["seed"]}
    for name, default in defaults.items():
        value = given.get(name)
        values[name] = default if value is None else value
    for name in _FROM_PRESET:
        value = given.get(name)
        values[name] = getattr(preset, name) if value is None else value
    return values


def _require_together(values: Given, rules: Rules) -> None:
    for name, needed in rules.needs:
        if values[name] not in _UNSET and values[needed] in _UNSET:
            raise FieldNeeded(needed, because=f"model {rules.model.model_id!r} takes {name} only with it")
    for name in rules.required:
        if values[name] in _UNSET:
            raise FieldNeeded(name, because=f"model {rules.model.model_id!r} needs it in every request")


def _checker(parameter: RequestParameter, model: ModelDescriptor, limits: Limits) -> Callable[[Any], None] | None:
    name, model_id, bounds = parameter.name, model.model_id, parameter.bounds_for(model, limits)
    return refusing(name, model_id) if bounds is None else bounds.checker(name, model_id)
