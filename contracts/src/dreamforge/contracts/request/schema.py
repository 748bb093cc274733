"""The declarations as types and documents: the fields of a body, and the JSON Schema of what one model takes. Pure."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, TypeAdapter

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import JOB_KINDS, ModelDescriptor
from dreamforge.contracts.request.bounds import Bounds, Json
from dreamforge.contracts.request.declaration import GROUPS, RequestParameter
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.parameters import PARAMETERS
from dreamforge.contracts.request.values import Whole


def _without_nul(text: str) -> str:
    """Postgres can store every character but this one, so it must not get into the log."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL (U+0000)")
    return text


def input_fields(limits: Limits) -> dict[str, Any]:
    """The fields of a body model (for `pydantic.create_model`), with these limits in them.

    So validation, the OpenAPI document and the limits cannot disagree. Validate it strictly: 1 is not "1".
    """
    return {each.name: _input_field(each, each.bounds(limits)) for each in PARAMETERS}


def _input_field(parameter: RequestParameter, bounds: Bounds) -> tuple[Any, Any]:
    kind = _bounded(parameter, bounds)
    kind = kind | None if parameter.nullable else kind
    return Annotated[kind, parameter.declared], ... if parameter.required else parameter.default


def _bounded(parameter: RequestParameter, bounds: Bounds) -> Any:
    kind, least, most = parameter.annotation, bounds.minimum, bounds.maximum
    if kind is int:
        return Annotated[int, Field(ge=least, le=most), Whole]
    if kind is float:
        return Annotated[float, Field(ge=least, le=most, allow_inf_nan=False)]
    if kind is str:
        return Annotated[str, StringConstraints(min_length=least, max_length=most), AfterValidator(_without_nul)]  # type: ignore[arg-type]  # lengths are whole
    if not parameter.takes_one_alone:
        return _of_length(kind, bounds)
    # What is made into a list is bounded as a list, and a document says that one alone is taken.
    listed = _of_length(parameter.type, bounds)
    also = listed | get_args(parameter.type)[0] | None
    return Annotated[listed, BeforeValidator(in_a_list, json_schema_input_type=also)]


def _of_length(kind: Any, bounds: Bounds) -> Any:
    if bounds.minimum is bounds.maximum is None:
        return kind
    return Annotated[kind, Field(min_length=bounds.minimum, max_length=bounds.maximum)]  # type: ignore[arg-type]  # lengths are whole


def request_schema(model: ModelDescriptor, limits: Limits) -> Json:
    """JSON Schema (2020-12) of what a request for this pipeline may set; defaults are those of its first preset.

    `x-group` and `x-widget` say how a form shows a property, `x-groups` the titles of the groups. `resolve` checks
    with the same declarations, so a request that the schema allows is refused only for what a schema cannot say: the
    product of two sides or of steps and strength, which assets and uploads exist, and one LoRA named twice. What
    belongs to the job and not to the image (priority, deadlines) is not in it.
    Errors: ValueError for a LoRA or ControlNet, which is not requested alone.
    """
    if model.kind not in JOB_KINDS:
        raise ValueError(f"{model.model_id} is a {model.kind}")
    can = model.capabilities
    offered = [(each, own) for each in PARAMETERS if (own := each.bounds_for(model, limits)) is not None]
    names = {each.name for each, _ in offered}
    together = {each.name: [needed] for each, _ in offered if (needed := each.declared.needs(can)) and needed in names}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": model.title or model.model_id,
        "type": "object",
        "required": [each.name for each, _ in offered if each.required or each.declared.required(can)],
        "additionalProperties": False,
        "properties": {each.name: _property(each, own, model) for each, own in offered},
        "x-groups": GROUPS,
        **({"dependentRequired": together} if together else {}),
    }


def _property(parameter: RequestParameter, bounds: Bounds, model: ModelDescriptor) -> Json:
    declared = parameter.declared
    labels = {"title": declared.label, "description": declared.help}
    form = {"x-group": declared.group, "x-widget": parameter.widget}
    default = getattr(model.presets[0], parameter.name) if declared.source == "preset" else parameter.default
    usual = {"default": default} if default not in (None, "", ()) else {}
    return bounds.applied_to(_TYPES[parameter.name] | labels | form | usual)


def _type_schema(parameter: RequestParameter) -> Json:
    """The type alone; nested values in place, without null: a request leaves out what it does not set."""
    schema = TypeAdapter(parameter.annotation).json_schema()
    definitions = schema.pop("$defs", {})
    if parameter.annotation is str:
        schema["pattern"] = "^[^\\u0000]*$"
    return _in_place(schema, definitions)


def _in_place(schema: Json, definitions: Json) -> Json:
    found = _without_null(schema)
    if (named := found.pop("$ref", None)) is not None:
        found = definitions[named.rpartition("/")[2]] | found
    if "items" in found:
        found["items"] = _in_place(found["items"], definitions)
    if "properties" in found:
        found["properties"] = {name: _in_place(each, definitions) for name, each in found["properties"].items()}
    return found


def _without_null(schema: Json) -> Json:
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default" if kept else "")}
    return rest | (kept[0] if kept else {})


_TYPES = {each.name: _type_schema(each) for each in PARAMETERS}
