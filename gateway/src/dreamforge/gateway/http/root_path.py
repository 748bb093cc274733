"""The prefix under which a proxy publishes the gateway: `FORGE_GATEWAY_ROOT_PATH`. Pure.

A proxy may pass the prefix on or cut it off; both are understood. Links of replies have it, pages use relative URLs.
"""

import re

from starlette.requests import Request
from starlette.types import Scope

_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


def checked(text: str) -> str:
    """A prefix without a slash at its end; "" for none. Errors: ValueError.

    >>> checked("/forge/"), checked("/")
    ('/forge', '')
    """
    path = text.rstrip("/")
    if _ROOT_PATH.fullmatch(path) is None:
        raise ValueError("must be a path that begins with a slash, of letters, digits, . _ ~ and - (/forge)")
    return path


def set_root(scope: Scope, root: str) -> None:
    """Give a request the prefix, whether its path has it or not; routes are found behind it."""
    path: str = scope["path"]
    if root and path != root and not path.startswith(f"{root}/"):
        scope["path"] = root + path
    scope["root_path"] = root


def root_of(request: Request) -> str:
    """The prefix of every link in a reply to this request."""
    root: str = request.scope.get("root_path", "")
    return root
