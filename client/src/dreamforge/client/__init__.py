"""Client of Dream Forge: `Client` and `AsyncClient`. Names are imported when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamforge.client.async_client import AsyncClient as AsyncClient
    from dreamforge.client.blocking_client import Client as Client
    from dreamforge.client.errors import ClientError as ClientError
    from dreamforge.client.errors import GatewayUnavailable as GatewayUnavailable
    from dreamforge.client.errors import JobNotSucceeded as JobNotSucceeded
    from dreamforge.client.errors import ProblemError as ProblemError
    from dreamforge.client.errors import WaitTimeout as WaitTimeout
    from dreamforge.client.retries import Retries as Retries

_MODULES = {
    "AsyncClient": "async_client",
    "Client": "blocking_client",
    "ClientError": "errors",
    "GatewayUnavailable": "errors",
    "JobNotSucceeded": "errors",
    "ProblemError": "errors",
    "Retries": "retries",
    "WaitTimeout": "errors",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:  # Any: whatever the name is
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
