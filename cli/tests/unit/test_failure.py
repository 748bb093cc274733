"""An error is printed as one block, with an exit code for scripts."""

import io
import json

import pytest
from rich.console import Console

from dreamforge.cli.failure import CommandError, Exit, exit_code_of, report
from dreamforge.client.errors import ProblemError
from dreamforge.contracts.errors import DependencyAway, ForgeError, JobNotFound
from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.runtime.embedded import FolderInUse, PortInUse

OUT_OF_BOUNDS = {
    "type": "/docs#problem-out_of_bounds",
    "title": "A value is out of bounds",
    "status": 422,
    "detail": "width_px is 9000, but must lie between 32 and 256",
    "code": "out_of_bounds",
    "maximum": 256,
    "errors": [{"pointer": "/width_px", "detail": "at most 256"}],
}


def printed(error: ForgeError, *, as_json: bool = False) -> tuple[str, Exit]:
    console = Console(file=io.StringIO(), width=200)
    code = report(error, console, as_json=as_json)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), code


def test_a_problem_says_what_where_and_what_would_be_right() -> None:
    text, code = printed(ProblemError(422, "POST http://gateway/v1/jobs", OUT_OF_BOUNDS))
    assert "width_px is 9000, but must lie between 32 and 256" in text
    assert "POST http://gateway/v1/jobs answered 422" in text
    assert "width_px  at most 256" in text
    assert code is Exit.REFUSED


def test_with_json_the_problem_document_is_passed_on() -> None:
    text, _ = printed(ProblemError(422, "POST /v1/jobs", OUT_OF_BOUNDS), as_json=True)
    assert json.loads(text)["error"]["code"] == "out_of_bounds"
    assert json.loads(text)["exit_code"] == 2


def test_a_problem_without_a_document_still_says_something() -> None:
    assert "the gateway answered 500" in printed(ProblemError(500, "GET /", {}))[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProblemError(503, "GET /", {}), Exit.UNAVAILABLE),
        (ProblemError(500, "GET /", {}), Exit.FAILED),
        (ProblemError(404, "GET /", {}), Exit.REFUSED),
        (DependencyAway("nats", "refused"), Exit.UNAVAILABLE),
        (JobNotFound("J"), Exit.REFUSED),
        (OutOfBounds("steps", 0, 1, 2), Exit.REFUSED),
        (FolderInUse("nats", "in use", owner_pid=1), Exit.IN_USE),
        (PortInUse("nats", "in use", port=1), Exit.IN_USE),
        (CommandError("x", Exit.JOB_ENDED), Exit.JOB_ENDED),
        (ForgeError("x"), Exit.FAILED),
    ],
)
def test_the_exit_code_names_the_kind_of_error(error: ForgeError, code: Exit) -> None:
    assert exit_code_of(error) is code
