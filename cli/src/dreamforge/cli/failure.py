"""What the command says when something is wrong: one block with what, where, and what would be right."""

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from rich.console import Console
from rich.text import Text

from dreamforge.contracts.errors import (
    Conflict,
    DependencyAway,
    ForgeError,
    InvalidInput,
    LimitReached,
    NotFound,
    Unavailable,
)


class Exit(IntEnum):
    """The exit codes of `dreamforge`, for scripts; `dreamforge --help` lists them."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    AWAY = 3
    JOB_ENDED = 4
    IN_USE = 5
    INTERRUPTED = 130


EXIT_MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "something failed that should not have",
    Exit.REFUSED: "what was asked cannot be done as it was asked",
    Exit.AWAY: "the gateway, NATS, Postgres or S3 could not be reached",
    Exit.JOB_ENDED: "the job failed or was cancelled",
    Exit.IN_USE: "a port or the folder is in use by another process",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}


@dataclass(eq=False)
class CommandError(ForgeError):
    """An error of the command itself. `facts` are shown as lines of name and value, `hint` says what helps."""

    code: ClassVar[str] = "command"
    what: str
    exit_code: Exit = Exit.FAILED
    facts: dict[str, str] = field(default_factory=dict)
    hint: str = ""

    def __str__(self) -> str:
        return self.what


@dataclass(eq=False)
class ProblemError(ForgeError):
    """The gateway refused, with an RFC 9457 problem document."""

    code: ClassVar[str] = "problem"
    status: int
    request: str
    document: dict[str, Any]  # Any: the members of a problem document are open

    def __str__(self) -> str:
        what = self.document.get("detail") or self.document.get("title") or f"the gateway answered {self.status}"
        return str(what)


def exit_code_of(error: ForgeError) -> Exit:
    """The exit code that says what kind of error this is."""
    match error:
        case CommandError():
            return error.exit_code
        case ProblemError(status=503 | 502 | 504) | Unavailable():
            return Exit.AWAY
        case ProblemError(status=status):
            return Exit.REFUSED if status < 500 else Exit.FAILED
        case InvalidInput() | NotFound() | Conflict() | LimitReached():
            return Exit.REFUSED
    return Exit.IN_USE if error.code in ("embedded_folder_in_use", "embedded_port_in_use") else Exit.FAILED


# Members of a problem document that the block says in another way.
_SAID = frozenset({"type", "title", "status", "detail", "code", "instance", "errors"})


def facts_of(error: ForgeError) -> dict[str, str]:
    """The lines below the headline: where it happened, and the fields that explain it."""
    match error:
        case CommandError():
            return error.facts
        case ProblemError():
            facts = {"where": f"{error.request} answered {error.status}"}
            facts |= {key: _plain(value) for key, value in error.document.items() if key not in _SAID}
            return facts | _validation_facts(error.document.get("errors"))
        case DependencyAway():
            return {"where": error.dependency}
    return {}


def _validation_facts(errors: object) -> dict[str, str]:
    """One line for each field that a request got wrong."""
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return {_field_name(each): str(each.get("detail") or each) for each in found}


def _field_name(each: dict[str, Any]) -> str:  # Any: an open JSON object
    return str(each.get("parameter") or each.get("pointer") or "body").removeprefix("/").replace("/", ".")


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def hint_of(error: ForgeError) -> str:
    """What the reader can do about it."""
    match error:
        case CommandError():
            return error.hint
        case ProblemError(status=503):
            return "the stack may still be starting, or a part of it is away: `dreamforge logs` tells"
        case DependencyAway(dependency="nats"):
            return "start the stack with `dreamforge up`, or name another server with FORGE_NATS_URL"
        case DependencyAway():
            return "start the stack with `dreamforge up`, or name another server in the FORGE_* settings"
    return ""


def block(error: ForgeError) -> Text:
    """The whole message, for people."""
    text = Text.assemble(("error", "bold red"), "  ", (str(error).strip(), "bold"))
    facts = facts_of(error)
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        text.append(f"\n  {name:<{width}}  ", style="dim")
        text.append(value)
    if hint := hint_of(error):
        text.append("\n  try  ", style="green")
        text.append(hint)
    return text


def report(error: ForgeError, console: Console, *, as_json: bool) -> Exit:
    """Say it on `console` (stderr) and give the exit code."""
    code = exit_code_of(error)
    if as_json:
        document = error.document if isinstance(error, ProblemError) else {"detail": str(error), "code": error.code}
        console.file.write(json.dumps({"error": document | facts_of(error), "exit_code": int(code)}) + "\n")
    else:
        console.print(block(error), soft_wrap=True)
    return code
