"""The document is complete, deterministic, and what is committed."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api
from dreamforge.gateway.documents.openapi_page import render
from dreamforge.gateway.openapi_file import main, text

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(api(Limits(steps=77)).state.document.read())


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [ref for value in part.values() for ref in references(value)]
    return [ref for value in part for ref in references(value)] if isinstance(part, list) else []


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for reference in references(document):
        part: Any = document
        for key in reference.removeprefix("#/").split("/"):
            part = part[key]


def test_every_error_is_a_documented_problem(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert "application/problem+json" in answer["content"], (path, status)


def test_the_limits_of_the_installation_are_stated(document: dict[str, Any]) -> None:
    assert "77 steps" in document["info"]["description"]
    assert document["components"]["schemas"]["Submission"]["properties"]["steps"]["anyOf"][0]["maximum"] == 77


def test_the_page_shows_every_route(document: dict[str, Any]) -> None:
    page = render(document)
    assert all(path in page for path in document["paths"])
    assert 'id="problem-queue_full"' in page


def test_what_is_committed_is_current() -> None:
    assert COMMITTED.read_text() == text()


def test_check_fails_on_drift(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "openapi.json"
    assert main([str(path), "--check"]) == 1
    assert main([str(path)]) == 0
    assert main([str(path), "--check"]) == 0
    path.write_text("{}")
    assert main([str(path), "--check"]) == 1
