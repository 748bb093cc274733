"""A stack in surroundings that are not the usual ones: a folder of any name, a proxy, IPv6, settings in .env."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually

UP_SECONDS = 120.0
# Nothing listens there: whatever is sent to the proxy fails.
PROXY = "http://127.0.0.1:1"


class Stack:
    """`dreamforge up` in a folder whose name no file system minds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "UV"))}
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), PROXY)
        self.environment = {**kept, **proxies, "NO_COLOR": "1", "COLUMNS": "200", "FORGE_S3_BUCKET": ""}
        self.output = folder / "up.txt"

    async def up(self) -> StackRecord:
        command = [sys.executable, "-m", "dreamforge.cli", "up"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - awaited through its record
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

        def record() -> StackRecord | None:
            assert self.process.poll() is None, self.output.read_text()
            found = read_record(self.folder / ".forge")
            return found if found and found.ready else None

        return await eventually(record, UP_SECONDS)

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dreamforge.cli", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def evaluated(script: str, name: str) -> str:
    """The value of a variable in a shell that has run a script."""
    command = ["sh", "-c", f'eval "$1"; printf %s "${name}"', "sh", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    folder = tmp_path / "\u00dcber [x] 'q' \U0001f525"
    folder.mkdir()
    (folder / ".env").write_text(
        f"FORGE_GATEWAY_HOST=::1\nFORGE_GATEWAY_PORT={free_port()}\nFORGE_RUNNER_RENDERER=synthetic\n"
        "FORGE_RUNNER_ID=by-env-file\nFORGE_HEALTH_PORT=1\nFORGE_GATEWAY_PROT=1\n",
        encoding="utf-8",
    )
    stack = Stack(folder)
    yield stack
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(60) == 0


@pytest.mark.timeout(240)
async def test_a_stack_comes_up_and_renders(stack: Stack) -> None:
    record = await stack.up()
    assert record.gateway_url.startswith("http://[::1]:")
    done = json.loads(stack.run("generate", "a fox [/b]", "--json", "--output", "pictures [1]"))
    assert done["job"]["attempts"][0]["runner_id"] == "by-env-file"
    assert (stack.folder / done["files"][0]).read_bytes().startswith(b"\x89PNG")
    said = stack.output.read_text(encoding="utf-8")
    assert "FORGE_HEALTH_PORT (.env) is not used: `up` gives each service its own" in said
    assert "FORGE_GATEWAY_PROT is not a setting" in said
    assert evaluated(stack.run("env"), "FORGE_GATEWAY_URL") == record.gateway_url
