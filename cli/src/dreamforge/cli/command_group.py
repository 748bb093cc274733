"""Groups of commands, with the options that many commands share: which gateway is asked."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from dreamforge.cli import settings


def remember_gateway(url: str | None) -> str | None:
    """Keep the gateway that an option names, before or after the command."""
    if url is not None:
        settings.set_arguments({"gateway_url": url})
    return url


Gateway = Annotated[
    str | None,
    typer.Option("--gateway", metavar="URL", callback=remember_gateway, help="Ask this gateway (FORGE_GATEWAY_URL)."),
]


def with_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the option --gateway, which `settings.load` reads."""

    @functools.wraps(command)
    def called(**values: Any) -> None:  # Any: values of options
        values.pop("gateway")
        command(**values)

    option = inspect.Parameter("gateway", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Gateway)
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in inspect.signature(command).parameters.values()]
    called.__signature__ = inspect.Signature([*own, option])  # type: ignore[attr-defined]  # read by inspect
    called.__annotations__ = {each.name: each.annotation for each in (*own, option)}
    return called


class GatewayGroup(typer.Typer):
    """A group whose commands ask the gateway: each takes --gateway."""

    def __init__(self, help: str) -> None:
        super().__init__(help=help, no_args_is_help=True, rich_markup_mode="rich")

    def command(self, *names: Any, **options: Any) -> Callable[[Any], Any]:  # Any: as typer declares
        """As typer's; the function is registered with the option and stays as it is."""
        register = super().command(*names, **options)

        def registered(function: Any) -> Any:
            register(with_gateway(function))
            return function

        return registered
