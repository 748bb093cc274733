"""`dreamforge import` shows what became of a picture, names what is missing, and submits only where it is told to."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.commands import import_picture
from dreamforge.cli.main import app

FOUND: dict[str, Any] = {
    "tool": "A1111",
    "request": {"prompt": "a fox", "seed": 5},
    "model": {"name": "mix", "hash": "abcdef0123", "model_id": None, "matched_by": None, "note": "gone"},
    "loras": [{"name": "Ink", "hash": "", "model_id": "ink", "matched_by": "name", "weight": 0.5, "note": ""}],
    "unmapped": [{"name": "VAE", "value": "[x]", "reason": "has no counterpart here"}],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """The requests that a gateway got, which answers each with what a picture says."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=FOUND)

    client = partial(GatewayClient, network=httpx.MockTransport(answer))
    monkeypatch.setattr(import_picture, "GatewayClient", client)
    return requests


def test_a_picture_is_shown_and_not_submitted(asked: list[httpx.Request], tmp_path: Path) -> None:
    (tmp_path / "fox.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    done = CliRunner().invoke(app, ["import", str(tmp_path / "fox.jpg")])
    assert done.exit_code == 0, done.output
    assert [(each.method, each.url.path, each.headers["content-type"]) for each in asked] == [
        ("POST", "/v1/imports", "image/jpeg")
    ]
    for text in (
        "made with A1111",
        "a fox",
        "model mix (abcdef0123) is missing: gone",
        "LoRA Ink is ink, by name",
        "VAE [x]: has no",
    ):
        assert text in done.output
    as_json = CliRunner().invoke(app, ["import", str(tmp_path / "fox.jpg"), "--json"])
    assert json.loads(as_json.output) == FOUND


def test_a_file_that_is_not_there_is_named(asked: list[httpx.Request], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import", str(tmp_path / "none.png")])
    assert done.exit_code != 0
    assert not asked
