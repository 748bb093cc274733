"""A request parameter is an option of `generate` because it is declared."""

from typing import Annotated, Any

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from dreamforge.cli.commands.generate import generate
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.declared_options import Given, fields_of, with_request_options
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.request.declaration import Declared, declared_in
from dreamforge.contracts.request.parameters import PARAMETERS, RequestParameters


class Crop(Value):
    """A structured parameter without a parser of its own."""

    left_px: int


class MoreParameters(RequestParameters):
    noise_offset: Annotated[int, Declared("Clip skip", "Layers that are left out.")] = Field(default=0, ge=0, le=12)
    crop: Annotated[Crop | None, Declared("Crop", "The part to keep.")] = None


MORE = declared_in(MoreParameters)


def help_of(command: Any) -> str:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).output


def invoked(*arguments: str) -> tuple[int, Given]:
    seen: Given = {}

    def command(given: Given) -> None:
        nonlocal seen
        seen = given

    app = typer.Typer()
    app.command()(with_request_options(command, MORE))
    return CliRunner().invoke(app, arguments).exit_code, seen


def test_every_declared_option_is_an_option_of_generate() -> None:
    text = help_of(generate)
    assert [name for each in PARAMETERS for name in each.options if name not in text] == []


def test_a_new_scalar_parameter_is_an_option_and_a_field_of_the_submission() -> None:
    assert "--noise-offset" in help_of(with_request_options(lambda given: None, MORE))
    code, given = invoked("--noise-offset", "2", "--guidance", "7", "--sampler", "euler")
    fields = fields_of(given, MORE)
    assert code == 0
    assert fields.items() >= {"noise_offset": 2, "guidance_scale": 7.0, "sampler": "euler"}.items()


@pytest.mark.parametrize(
    "arguments", [("--noise-offset", "13"), ("--steps", "0"), ("--strength", "2"), ("--sampler", "unknown")]
)
def test_a_value_outside_the_declared_range_is_refused(arguments: tuple[str, str]) -> None:
    assert invoked(*arguments)[0] == 2


def test_options_that_are_not_given_are_not_submitted() -> None:
    assert fields_of(invoked()[1], PARAMETERS) == {"negative_prompt": "", "images": 1, "output_format": "png"}


def test_structured_parameters_have_their_own_format_or_json() -> None:
    _, given = invoked("--lora", "ink:0.8", "--lora", "film:1:0.5", "--upscale", "2", "--crop", '{"left_px": 8}')
    fields = fields_of(given, MORE)
    assert fields["loras"] == [
        {"model_id": "ink", "weight": 0.8},
        {"model_id": "film", "weight": 1.0, "text_weight": 0.5},
    ]
    assert (fields["upscale"], fields["crop"]) == ({"factor": 2.0}, {"left_px": 8})
    with pytest.raises(CommandError, match="--crop"):
        fields_of({"crop": "left"}, MORE)
