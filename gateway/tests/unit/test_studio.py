"""The studio is one closed document, and what it names exists: routes, events, its own elements.

What its scripts do is in test_studio_scripts; what a person sees is in tests/browser.
"""

import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from dreamforge.contracts.events import JOB_EVENTS, JobEvent, StepProgressed
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api
from dreamforge.gateway.routes.pages import Page, studio_file, studio_text

CALL = re.compile(r"""(?:call|read|fetch)\([`"](v1/[^`"?]*)[^`"]*[`"](?:, \{ method: "(\w+)")?""")


class Elements(HTMLParser):
    """Ids, classes, and every address that a browser would follow."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.classes: set[str] = set()
        self.addresses: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.ids += [has["id"]] if "id" in has else []
        self.classes.update(has.get("class", "").split())
        self.addresses.update(has[key] for key in ("src", "href", "action") if key in has)


@pytest.fixture(scope="module")
def text() -> str:
    return studio_text()


@pytest.fixture(scope="module")
def script(text: str) -> str:
    return "\n".join(re.findall(r"<script>(.*?)</script>", text, re.DOTALL))


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    return found


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(api(Limits()).state.document.read())


def test_every_file_is_in_the_page_and_may_run(text: str) -> None:
    folder = files("dreamforge.gateway") / "static" / "studio"
    parts = [part for part in folder.iterdir() if part.name != "page.html"]
    for part in parts:
        assert studio_file(part.name) in text, part.name
        assert "</script" not in studio_file(part.name)
    assert Page.of(text).policy.count("'sha256-") == len(parts)


def test_it_loads_nothing_from_elsewhere(text: str, elements: Elements) -> None:
    assert not elements.tags & {"link", "iframe", "object", "embed", "base"}
    assert elements.addresses == {"docs", "asyncapi"}, "relative, so that a prefix of a proxy works"
    for word in (
        "http:",
        "https:",
        '"/v1',
        "`/v1",
        "@import",
        "url(",
        "import(",
        "eval(",
        "innerHTML",
        " style=",
        "onclick=",
    ):
        assert word not in text, word


def test_every_route_it_calls_is_in_the_api(script: str, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"\{\w+\}", "{}", path), method) for path, methods in document["paths"].items() for method in methods
    }
    calls = {
        ("/" + re.sub(r"\$\{.*?\}", "{}", path), (method or "get").lower()) for path, method in CALL.findall(script)
    }
    assert calls >= {("/v1/jobs", "post"), ("/v1/jobs/{}", "get"), ("/v1/jobs/{}/cancel", "post")}
    assert calls <= routes


def test_every_event_of_a_job_and_every_status_has_a_text(script: str) -> None:
    described = set(re.findall(r'case "([a-z-]+)": return', script[: script.index("function describeStep")]))
    known: tuple[type[JobEvent], ...] = (*JOB_EVENTS, StepProgressed)
    assert described == {event.TOKEN for event in known}
    states = re.search(r"const STATES = \{(.*?)\};", script, re.DOTALL)
    assert states is not None
    assert set(re.findall(r"(\w+): \"", states[1])) == {status.value for status in Status if status is not Status.NONE}


def test_every_element_it_uses_exists_once(script: str, elements: Elements) -> None:
    assert len(elements.ids) == len(set(elements.ids))
    assert set(re.findall(r'\$\("([^"]+)"\)', script)) <= set(elements.ids)
    parts = re.findall(r'(?:part|on)\("\.([\w-]+)', script)
    assert set(parts) <= elements.classes
