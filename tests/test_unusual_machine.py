"""A stack in surroundings that are not the usual ones: a folder of any name, a proxy, IPv6, settings in .env."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_testkit.command_stack import CommandStack

from dreamforge.runtime.embedded.ports import free_port

# Nothing listens there: whatever is sent to the proxy fails.
PROXY = "http://127.0.0.1:1"


def evaluated(script: str, name: str) -> str:
    """The value of a variable in a shell that has run a script."""
    command = ["sh", "-c", f'eval "$1"; printf %s "${name}"', "sh", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[CommandStack]:
    folder = tmp_path / "\u00dcber [x] 'q' \U0001f525"
    folder.mkdir()
    (folder / ".env").write_text(
        f"FORGE_GATEWAY_HOST=::1\nFORGE_GATEWAY_PORT={free_port()}\nFORGE_RUNNER_RENDERER=synthetic\n"
        "FORGE_RUNNER_ID=by-env-file\nFORGE_HEALTH_PORT=1\nFORGE_GATEWAY_PROT=1\n",
        encoding="utf-8",
    )
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), PROXY)
    stack = CommandStack(folder, {**proxies, "FORGE_S3_BUCKET": ""})
    yield stack
    stack.end()


@pytest.mark.timeout(240)
async def test_a_stack_comes_up_renders_and_stops(stack: CommandStack) -> None:
    record = await stack.up()
    assert record.gateway_url.startswith("http://[::1]:")
    done = stack.json("generate", "a fox [/b]", "--output", "pictures [1]")
    assert done["job"]["attempts"][0]["runner_id"] == "by-env-file"
    assert (stack.folder / done["files"][0]).read_bytes().startswith(b"\x89PNG")
    said = stack.output_text()
    assert "FORGE_HEALTH_PORT (.env) is not used: `up` gives each service its own" in said
    assert "FORGE_GATEWAY_PROT is not a setting" in said
    assert evaluated(stack.run("env").stdout, "FORGE_GATEWAY_URL") == record.gateway_url
    os.kill(record.pid, signal.SIGTERM)
    assert stack.wait(60) == 0
