"""`dreamforge up` as a process in a folder of its own, and every other command beside it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.runtime.testing import eventually

# Torch is imported and the first model built, on two cores that others may use too.
UP_SECONDS = 120.0


class CommandStack:
    """A stack that its commands start and stop, as on a user's machine."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """In `folder`; `environment` is added to ours, without the FORGE_ settings that ours has."""
        self.folder = folder
        self.output = folder / "up.txt"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
        self.environment = {**kept, "NO_COLOR": "1", "COLUMNS": "200", **environment}
        self._process: subprocess.Popen[bytes] | None = None

    async def up(self, **environment: str) -> StackRecord:
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - awaited through its record
                [sys.executable, "-m", "dreamforge.cli", "up"],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return await eventually(self._record_or_end, UP_SECONDS)

    def _record_or_end(self) -> StackRecord | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"up ended with {self._process.returncode}:\n{self.output_text()}")
        record = read_record(self.folder / ".forge")
        return record if record and record.ready else None

    def output_text(self) -> str:
        """Everything that `up` printed so far."""
        return self.output.read_text("utf-8", errors="replace")

    @property
    def record(self) -> StackRecord:
        found = read_record(self.folder / ".forge")
        assert found is not None, "no stack runs"
        return found

    def pid_of(self, name: str) -> int:
        return next(process.pid for process in self.record.processes if process.name == name)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """One `dreamforge` command in the stack's folder."""
        return subprocess.run(
            [sys.executable, "-m", "dreamforge.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """One `dreamforge` command that a test talks to while it runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "dreamforge.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            # Where the tests are a shell's background job, SIGINT is ignored, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str) -> Any:  # Any: JSON
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def when_ready(self) -> dict[str, Any] | None:
        """The readiness of every service, once all are ready."""
        readiness: dict[str, Any] = self.json("status")["readiness"]
        return readiness if all(answer["ready"] for answer in readiness.values()) else None

    def fetch(self, path: str) -> bytes:
        """Bytes of the gateway."""
        with urlopen(self.record.gateway_url + path) as answer:
            found: bytes = answer.read()
            return found

    def post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:  # Any: JSON
        """What the gateway answers to a JSON body."""
        request = Request(self.record.gateway_url + path, json.dumps(body).encode(), headers)
        with urlopen(request) as answer:
            return json.load(answer)

    def wait(self, seconds: float = 30) -> int:
        """The exit code of `up`, once it has ended."""
        assert self._process is not None
        return self._process.wait(seconds)

    def end(self) -> None:
        """Kill what still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
