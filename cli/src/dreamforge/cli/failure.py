"""Error output and exit codes of the command: one block with the error, its facts and a hint."""

import json
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from rich.console import Console
from rich.text import Text

from dreamforge.cli.console import printable
from dreamforge.client.errors import GatewayUnavailable, ProblemError
from dreamforge.contracts.errors import (
    Conflict,
    DependencyAway,
    ForgeError,
    InvalidInput,
    LimitReached,
    NotFound,
    Unavailable,
)
from dreamforge.runtime.network import AddressRefused
from dreamforge.runtime.private_folder import NotPrivate
from dreamforge.runtime.service.settings import InvalidSettings


class Exit(IntEnum):
    """The exit codes of `dreamforge`, for scripts; `dreamforge --help` lists them."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    UNAVAILABLE = 3
    JOB_ENDED = 4
    IN_USE = 5
    NOT_CHECKED = 6
    INTERRUPTED = 130


EXIT_MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "an unexpected failure",
    Exit.REFUSED: "the request was refused: it is invalid or not possible",
    Exit.UNAVAILABLE: "the gateway, NATS, Postgres or S3 could not be reached",
    Exit.JOB_ENDED: "the job failed or was cancelled",
    Exit.IN_USE: "a port or the folder is in use by another process",
    Exit.NOT_CHECKED: "verify: neither signature nor log could be checked",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}


@dataclass(eq=False)
class CommandError(ForgeError):
    """An error of the command itself. `facts` are shown as lines of name and value, `hint` says how to solve it."""

    code: ClassVar[str] = "command"
    what: str
    exit_code: Exit = Exit.FAILED
    facts: dict[str, str] = field(default_factory=dict)
    hint: str = ""

    def __str__(self) -> str:
        return self.what


NO_GATEWAY_HINT = (
    "start the stack with `dreamforge up`, or name another gateway with --gateway URL or FORGE_GATEWAY_URL"
)


def exit_code_of(error: ForgeError) -> Exit:
    """The exit code for this kind of error."""
    match error:
        case CommandError():
            return error.exit_code
        case ProblemError(status=503 | 502 | 504) | Unavailable():
            return Exit.UNAVAILABLE
        case ProblemError(status=status):
            return Exit.REFUSED if status < 500 else Exit.FAILED
        case InvalidSettings() | InvalidInput() | NotFound() | Conflict() | LimitReached() | NotPrivate():
            return Exit.REFUSED
    return Exit.IN_USE if error.code in ("embedded_folder_in_use", "embedded_port_in_use") else Exit.FAILED


# Members of a problem document that the block shows in another form.
_SHOWN_ELSEWHERE = frozenset({"type", "title", "status", "detail", "code", "instance", "errors"})


def facts_of(error: ForgeError) -> dict[str, str]:
    """The lines below the headline: where the error occurred, and the fields that explain it."""
    match error:
        case CommandError():
            return error.facts
        case ProblemError():
            said = str(error)
            more = {key: _plain(value) for key, value in error.document.items() if key not in _SHOWN_ELSEWHERE}
            more |= _validation_facts(error.document.get("errors"))
            return {"where": f"{error.request} answered {error.status}"} | {
                name: value for name, value in more.items() if not _says(said, value)
            }
        case GatewayUnavailable():
            return {"reason": error.reason}
        case DependencyAway():
            return {"where": error.dependency}
    return {}


def _validation_facts(errors: object) -> dict[str, str]:
    """One line for each invalid field of a request."""
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return {_field_name(each): str(each.get("detail") or each) for each in found}


def _field_name(each: dict[str, Any]) -> str:  # Any: an open JSON object
    return str(each.get("parameter") or each.get("pointer") or "body").removeprefix("/").replace("/", ".")


def _says(headline: str, fact: str) -> bool:
    """Whether a line would only repeat the headline: its words are there, one after the other, and no parts of words.

    >>> _says("width_px is 9000, but must lie between 32 and 256", "256"), _says("it is 2560", "256")
    (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", headline) is not None


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def hint_of(error: ForgeError) -> str:
    """What the user can do."""
    match error:
        case CommandError():
            return error.hint
        case GatewayUnavailable():
            return NO_GATEWAY_HINT
        case AddressRefused():
            return f"if that server is meant, allow it: FORGE_DOWNLOAD_NETWORKS={error.address}"
        case ProblemError(status=401):
            return "name a key of this gateway in FORGE_API_KEY"
        case ProblemError(document={"code": "quota_exceeded"}):
            return "see what is used in GET /v1/me; an administrator changes quotas with `dreamforge tenants set NAME`"
        case ProblemError(status=503):
            return (
                "the stack may still be starting, or a part of it is unavailable: see `dreamforge logs` on its machine"
            )
        case DependencyAway(dependency="nats"):
            return "start the stack with `dreamforge up`, or name another server with FORGE_NATS_URL"
        case DependencyAway():
            return "start the stack with `dreamforge up`, or name another server in the FORGE_* settings"
    return ""


def block(error: ForgeError) -> Text:
    """The whole message as text."""
    text = Text.assemble(("error", "bold red"), "  ", (printable(str(error).strip()), "bold"))
    facts = facts_of(error)
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        text.append(f"\n  {name:<{width}}  ", style="dim")
        text.append(printable(value))
    if hint := hint_of(error):
        text.append("\n  try  ", style="green")
        text.append(printable(hint))
    return text


def report(error: ForgeError, console: Console, *, as_json: bool) -> Exit:
    """Print the error on `console` (stderr); its exit code."""
    code = exit_code_of(error)
    if as_json:
        document = error.document if isinstance(error, ProblemError) else {"detail": str(error), "code": error.code}
        console.file.write(json.dumps({"error": document | facts_of(error), "exit_code": int(code)}) + "\n")
    else:
        console.print(block(error), soft_wrap=True)
    return code
