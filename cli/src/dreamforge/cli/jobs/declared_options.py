"""Command line options of request parameters, made from their declarations: a new parameter needs no line here."""

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs import request_options
from dreamforge.contracts.request.bounds import Bounds
from dreamforge.contracts.request.declaration import GROUPS, RequestParameter
from dreamforge.contracts.request.parameters import PARAMETERS

RENDERING = "How it is rendered"
FROM_IMAGES = "Starting from images (a file, or the id of an artifact)"
# Groups that share a panel of the help text; None is the first panel. Every other group has a panel of its own.
PANELS: dict[str, str | None] = {
    "basic": None,
    "more": None,
    "rendering": RENDERING,
    "loras": RENDERING,
    "upscale": RENDERING,
    "start": FROM_IMAGES,
    "image_prompts": FROM_IMAGES,
    "control": FROM_IMAGES,
}
# Structured parameters with an option type and a parser of their own; any other one is given as JSON.
STRUCTURED: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "loras": (list[str], request_options.loras),
    "embeddings": (list[str], request_options.embeddings),
    "upscale": (str, request_options.upscale),
    "masked_area": (int, request_options.masked_area),
    "geometry": (str, request_options.geometry),
    # Completed by `request_options.control` and `image_prompts`, which need the images.
    "control": (list[str], lambda texts: texts),
    "image_prompts": (list[str], lambda texts: texts),
}
#: Kinds of parameters whose options name files.
UPLOADED = ("upload", "uploads")
Given = Mapping[str, Any]  # Any: the value of each option, None where it was not given


def with_request_options(
    command: Callable[..., None], parameters: Iterable[RequestParameter] = PARAMETERS
) -> Callable[..., None]:
    """`command` with an option for each request parameter in place of its argument `given`, for typer."""
    declared = [each for each in parameters if each.options]
    names = [each.name for each in declared]

    @functools.wraps(command)
    def called(**values: Any) -> None:  # Any: values of options
        command(given={name: values.pop(name) for name in names}, **values)

    signature: list[Parameter] = []
    for own in inspect.signature(command).parameters.values():
        signature += map(_option, declared) if own.name == "given" else [own.replace(kind=Parameter.KEYWORD_ONLY)]
    called.__signature__ = Signature(signature)  # type: ignore[attr-defined]  # read by inspect
    called.__annotations__ = {each.name: each.annotation for each in signature}
    return called


def _option(parameter: RequestParameter) -> Parameter:
    bounds = parameter.recorded.narrowed(Bounds(parameter.declared.minimum, parameter.declared.maximum))
    is_number = parameter.type in (int, float)
    option = typer.Option(
        *parameter.options,
        help=parameter.declared.option_help or parameter.declared.help,
        metavar=parameter.declared.metavar,
        min=bounds.minimum if is_number else None,
        max=bounds.maximum if is_number else None,
        rich_help_panel=PANELS.get(parameter.declared.group, GROUPS[parameter.declared.group]),
    )
    default = parameter.default if parameter.kind == "scalar" else None
    optional: Any = _type_of(parameter) | None  # Any: a type that is known at run time only
    return Parameter(parameter.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[optional, option])


def _type_of(parameter: RequestParameter) -> Any:
    match parameter.kind:
        case "scalar":
            return parameter.type
        case "upload":
            return Path
        case "uploads":
            return list[Path]
        case "structured":
            return STRUCTURED[parameter.name][0] if parameter.name in STRUCTURED else str


def fields_of(given: Given, parameters: Iterable[RequestParameter] = PARAMETERS) -> Json:
    """The fields of a submission that the options state; images are left to `uploaded_fields`. Errors: CommandError."""
    chosen = [each for each in parameters if given.get(each.name) not in (None, []) and each.kind not in UPLOADED]
    return {each.name: _parsed(each, given[each.name]) for each in chosen}


def _parsed(parameter: RequestParameter, value: Any) -> Any:
    if parameter.kind == "scalar":
        return value
    return STRUCTURED[parameter.name][1](value) if parameter.name in STRUCTURED else _json(parameter, value)


def _json(parameter: RequestParameter, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        option = parameter.options[0]
        raise CommandError(f"{option} is {text!r}", Exit.REFUSED, {"reason": str(error)}, "write it as JSON") from None


async def uploaded_fields(
    gateway: GatewayClient, given: Given, parameters: Iterable[RequestParameter] = PARAMETERS
) -> Json:
    """The fields that name images; files are uploaded. Errors: CommandError, ProblemError."""
    chosen = [each for each in parameters if each.kind in UPLOADED and given.get(each.name) not in (None, [])]
    return {each.name: await _uploaded(gateway, given[each.name]) for each in chosen}


async def _uploaded(gateway: GatewayClient, value: Path | list[Path]) -> str | list[str]:
    if isinstance(value, Path):
        return await request_options.image(gateway, value)
    return [await request_options.image(gateway, each) for each in value]
