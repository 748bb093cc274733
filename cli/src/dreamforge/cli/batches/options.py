"""The options that make a batch of a request: `--template`, `--grid`, `--samples`. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.request.declaration import RequestParameter
from dreamforge.contracts.request.parameters import PARAMETERS

PROMPTS = ("prompt", "negative_prompt")
Json = dict[str, Any]  # Any: the body of a submission


def batch_of(
    fields: Mapping[str, Any], grid: Mapping[str, list[Any]], *, template: bool, samples: int | None, seed: int | None
) -> Json:
    """The body of a batch from that of a job. What the grid sets is not also taken from an option's default."""
    defaults = {each.name: each.default for each in PARAMETERS}
    request = {name: value for name, value in fields.items() if name not in grid or value != defaults.get(name)}
    templates = {name: request.pop(name) for name in PROMPTS if template and request.get(name)}
    chosen: Json = {"template": templates, "grid": grid, "samples": samples, "template_seed": seed}
    return {"request": request} | {name: value for name, value in chosen.items() if value}


def grid_of(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Each `NAME=VALUE,VALUE` or `NAME=[JSON]`; the name is that of a parameter or of its option.

    Errors: CommandError.

    >>> grid_of(["steps=10,20", "guidance=3,7.5", 'prompt=["a, b", "c"]'])
    {'steps': [10, 20], 'guidance_scale': [3.0, 7.5], 'prompt': ['a, b', 'c']}
    """
    return dict(_axis(text) for text in texts)


def _axis(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    parameter = _NAMED.get(name.strip().removeprefix("--").replace("-", "_"))
    if parameter is None or not equals or not values.strip():
        what = f"--grid is {text!r}"
        hint = f"write it as NAME=VALUE,VALUE, for example steps=10,20; names: {', '.join(sorted(_NAMED))}"
        raise CommandError(what, Exit.REFUSED, hint=hint)
    return parameter.name, _values(parameter, values.strip())


def _values(parameter: RequestParameter, text: str) -> list[Any]:
    try:
        if text.startswith("["):
            found: list[Any] = json.loads(text)
            return found
        return [_value(parameter, each.strip()) for each in text.split(",")]
    except ValueError as error:
        hint = f'write numbers as {parameter.name}=1,2 and anything else as JSON: {parameter.name}=["a", "b"]'
        what = f"--grid {parameter.name} has values that cannot be read"
        raise CommandError(what, Exit.REFUSED, {"reason": str(error)}, hint) from None


def _value(parameter: RequestParameter, text: str) -> Any:
    if parameter.type in (int, float):
        return parameter.type(text)
    return text if parameter.kind in ("scalar", "upload") else json.loads(text)


_NAMED = {each.name: each for each in PARAMETERS} | {
    option.removeprefix("--").replace("-", "_"): each
    for each in PARAMETERS
    for option in each.options
    if option.startswith("--")
}
