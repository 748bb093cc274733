"""Writes, checks or prints the OpenAPI document, made without a server.

`python -m dreamforge.gateway openapi docs/openapi/openapi.json` writes it, with `--check` it fails when the committed
file differs, and without a path it is printed.
"""

import json
import sys
from pathlib import Path

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api


def text() -> str:
    """The document with default limits, sorted, so that a difference is a change."""
    return json.dumps(api(Limits()).state.document.read(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Print, write or check. Gives the exit status."""
    path = next((Path(word) for word in arguments if not word.startswith("-")), None)
    if path is None:
        sys.stdout.write(text())
        return 0
    if "--check" in arguments:
        if path.is_file() and path.read_text() == text():
            return 0
        sys.stderr.write(f"{path} differs from the gateway's routes; run `task openapi`\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text())
    return 0
