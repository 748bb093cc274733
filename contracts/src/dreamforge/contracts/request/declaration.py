"""How a request parameter is declared: the metadata of one field, from which everything else is made.

A declaration is a field of `parameters.RequestParameters`: `Annotated[type, Declared(...)]`. Its type and the bounds
in it hold for every request that was ever recorded; `Declared` adds what holds for new requests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, BeforeValidator, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters
from dreamforge.contracts.request.bounds import Bounds
from dreamforge.contracts.request.image_size import ImageSizes
from dreamforge.contracts.request.limits import Limits

Group = Literal["basic", "more", "video", "rendering", "loras", "upscale", "start", "image_prompts", "control", "file"]
# Titles of the groups, in the order of a form.
GROUPS: dict[Group, str] = {
    "basic": "Request",
    "more": "More settings",
    "video": "Video",
    "rendering": "How it is rendered",
    "loras": "LoRAs",
    "upscale": "Second pass",
    "start": "Start from an image",
    "image_prompts": "Image prompts",
    "control": "ControlNets",
    "file": "File",
}
Widget = Literal[
    "text", "textarea", "number", "choice", "upload", "uploads", "model", "preset", "loras", "vae", "group", "groups"
]
# Scalar: a number, text or choice. Upload: named by the hash of an image; uploads: several. Structured: has fields of
# its own.
Kind = Literal["scalar", "upload", "uploads", "structured"]
_BOUNDS = (Ge, Gt, Le)


@dataclass(slots=True)
class Draft:
    """A request while it is resolved: every parameter has a value."""

    values: dict[str, Any]
    model: ModelDescriptor
    models: Mapping[str, ModelDescriptor]
    limits: Limits
    image_sizes: ImageSizes


@dataclass(frozen=True, slots=True)
class Declared:
    """What a parameter is beyond its type."""

    label: str
    help: str
    group: Group = "more"
    widget: Widget | None = None
    """None: what suits its type."""
    source: Literal["declared", "preset", "caller"] = "declared"
    """Where its value comes from when the request has none: its own default, the preset, or who calls `resolve`."""
    minimum: float | None = None
    """Of new requests; the bounds of the type hold for recorded ones."""
    maximum: float | None = None
    limit: str | None = None
    """The field of `Limits` that is its maximum."""
    bounds: Callable[[ModelDescriptor], Bounds | None] = lambda _: Bounds()
    """What a model allows of it; None: the model does not have it."""
    inside_as: tuple[str, ...] = ()
    """Fields of its value that are bounded as the parameters of the same names."""
    required: Callable[[Parameters], bool] = lambda _: False
    """Whether a model needs it in every request."""
    needs: Callable[[Parameters], str | None] = lambda _: None
    """The parameter without which a model does not take it."""
    requested_as: Any = None
    """The type that a request gives it in, where that is not the recorded one."""
    usual: Callable[[Parameters], Any] | None = None
    """The default of a model's requests, where that is not its own default."""
    complete: Callable[[Any, Draft], Any] | None = None
    """Checks that concern several parameters, and the value to record; runs when all values are there."""
    restate: Callable[[Any, Any], Any] | None = None
    """(value, request) -> what to request to get this value again; None: the value itself."""
    example: str | None = None
    options: tuple[str, ...] | None = None
    """Names of its command line option; None: the field's name with dashes; (): it has none of its own."""
    metavar: str | None = None
    option_help: str | None = None
    """Help of the command line option, where a client there gives the value in another form."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Label and help are title and description wherever the field is documented."""
        examples = {"examples": [self.example]} if self.example else {}
        return handler(schema) | {"title": self.label, "description": self.help} | examples


@dataclass(frozen=True, slots=True)
class RequestParameter:
    """One declaration, read from its field."""

    name: str
    annotation: Any
    """Its type in a request, without None, with the patterns of texts."""
    nullable: bool
    default: Any
    recorded: Bounds
    declared: Declared
    inside: tuple["RequestParameter", ...] = ()
    """Those of `inside_as`."""

    @classmethod
    def of(cls, name: str, field: FieldInfo) -> "RequestParameter":
        """Read a field of `RequestParameters`."""
        (declared,) = (each for each in field.metadata if isinstance(each, Declared))
        minima = [each.ge for each in field.metadata if isinstance(each, Ge)]
        maxima = [each.le for each in field.metadata if isinstance(each, Le)]
        others = [each for each in field.metadata if not isinstance(each, Declared) and type(each) not in _BOUNDS]
        plain, nullable = _without_none(declared.requested_as or field.annotation)
        chosen = declared.source != "declared"
        return cls(
            name,
            Annotated[plain, *others] if others else plain,
            nullable or chosen or field.default is None,
            None if field.is_required() else field.default,
            Bounds(*(each[0] if each else None for each in (minima, maxima))),  # type: ignore[arg-type]  # numbers here
            declared,
        )

    @property
    def required(self) -> bool:
        """Whether every request has to say it."""
        return self.default is None and not self.nullable

    @property
    def takes_one_alone(self) -> bool:
        """Whether one item, or null, stands for a list."""
        metadata = get_args(self.annotation)[1:] if get_origin(self.annotation) is Annotated else ()
        return any(isinstance(each, BeforeValidator) and each.func is in_a_list for each in metadata)

    @property
    def type(self) -> Any:
        """Its type in a request without patterns: int, float, str, a Literal, a tuple or a value class."""
        return get_args(self.annotation)[0] if get_origin(self.annotation) is Annotated else self.annotation

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values of a Literal."""
        return get_args(self.type) if get_origin(self.type) is Literal else None

    @property
    def kind(self) -> Kind:
        """How a client gives it a value."""
        if self.widget in ("upload", "uploads"):
            return self.widget
        return "scalar" if self.type in (int, float, str) or self.choices else "structured"

    @property
    def widget(self) -> Widget:
        """The control of a form."""
        if self.declared.widget is not None:
            return self.declared.widget
        if self.choices:
            return "choice"
        return "number" if self.type in (int, float) else "text" if self.type is str else "group"

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its command line option."""
        own = self.declared.options
        return ("--" + self.name.replace("_", "-"),) if own is None else own

    def bounds(self, limits: Limits) -> Bounds:
        """What a new request may say, whatever the model."""
        declared = self.declared
        bounded = Bounds(declared.minimum, declared.maximum)
        if declared.limit is not None:
            bounded = bounded.narrowed(Bounds(maximum=getattr(limits, declared.limit)))
        return self.recorded.narrowed(bounded)

    def bounds_for(self, model: ModelDescriptor, limits: Limits) -> Bounds | None:
        """The same for one model; None: the model does not have this parameter."""
        own = self.declared.bounds(model)
        if own is None:
            return None
        inside = {each.name: each.bounds_for(model, limits) for each in self.inside}
        return self.bounds(limits).narrowed(replace(own, inside={**own.inside, **inside}))


def declared_in(model: type[BaseModel]) -> tuple[RequestParameter, ...]:
    """The declarations of a class, in order."""
    found = {name: RequestParameter.of(name, field) for name, field in model.model_fields.items()}
    return tuple(
        replace(each, inside=tuple(found[name] for name in each.declared.inside_as)) for each in found.values()
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it had one."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    (kept,) = (each for each in get_args(annotation) if each is not NoneType)
    return kept, True
