"""The receiver of docs/clients.md, as it stands there, gets what happens to a job."""

import contextlib
import io
import json
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from system_testkit.documents import snippets
from system_testkit.live_stack import LiveStack
from typer.testing import CliRunner

from dreamforge.cli.main import app
from dreamforge.runtime.testing import eventually


async def test_the_receiver_of_the_document_verifies_what_happens_to_a_job(stack: LiveStack) -> None:
    program: dict[str, Any] = {}
    (example,) = snippets("Webhooks")
    exec(example, program)  # noqa: S102  # it is what a reader would run
    printed = io.StringIO()
    server = ThreadingHTTPServer(("127.0.0.1", 0), program["Hook"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        created = (await stack.client.post("/v1/webhooks", json={"url": url})).json()
        program["SECRET"] = created["secret"]
        with contextlib.redirect_stdout(printed):
            job = (await stack.client.post("/v1/jobs", json={"prompt": "a fox", "steps": 2})).json()
            await eventually(lambda: f"job.succeeded {job['job_id']}" in printed.getvalue(), 60.0)
        await stack.client.delete(f"/v1/webhooks/{created['webhook_id']}")
    finally:
        server.shutdown()
        server.server_close()


def dreamforge(*words: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_webhooks_by_command(gateway_url: str) -> None:
    ask = ("--gateway", gateway_url)
    made = json.loads(dreamforge("webhooks", "create", "https://a.example/", "--name", "shop", "--json", *ask))
    webhook = made["webhook_id"]
    assert made["kinds"] == ["job.succeeded", "job.failed", "job.cancelled"]
    assert "url: https://a.example/" in dreamforge("webhooks", "show", webhook, *ask)
    assert dreamforge("webhooks", "rotate", webhook, "--overlap-hours", "1", *ask).startswith("whsec_")
    assert "0 deliveries" in dreamforge("webhooks", "replay", webhook, *ask)
    assert json.loads(dreamforge("webhooks", "deliveries", webhook, "--json", *ask)) == {"deliveries": []}
    listed = (dreamforge("webhooks", "list", "--json", *ask) for _ in range(50))  # the gateway reads its event back
    assert any(webhook in each for each in listed)
    assert "is deleted" in dreamforge("webhooks", "delete", webhook, *ask)
    assert CliRunner().invoke(app, ("webhooks", "show", webhook, *ask)).exit_code != 0
