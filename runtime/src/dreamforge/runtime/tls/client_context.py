"""Whom a client trusts: the authority of the installation where one is named, else those of the system."""

import ssl
from pathlib import Path

from dreamforge.runtime.service.settings import InvalidSettings


def client_context(authority: Path | None, setting: str) -> ssl.SSLContext | None:
    """A context that trusts this authority and no other; None where none is named.

    `setting` is the variable that named it, for the error. Errors: InvalidSettings when it cannot be read.
    """
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it has no certificate as PEM"
        raise InvalidSettings((f"{setting} is {str(authority)!r}: {reason}",)) from None
