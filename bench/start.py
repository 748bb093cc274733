"""How long `dreamforge up` takes: to the first job that is accepted, to its picture, and to stop again.

Each round starts a stack with the model of this repository twice: in an empty folder (the database is initialised), and
in the same folder again. Beside them the time of a command that needs no stack. Nothing else should run.

Usage: python -m bench.start [--rounds 3] [--renderer diffusers]
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, create_subprocess_exec
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

from bench.http_connection import HttpConnection
from bench.timing import clock

from dreamforge.runtime.embedded.ports import free_port

WAIT_SECONDS, POLL_SECONDS = 120.0, 0.02
FORGE = (sys.executable, "-m", "dreamforge.cli")


@dataclass(frozen=True, slots=True)
class Start:
    """One life of a stack. Seconds: the first two since `dreamforge up` was started, the last since Ctrl-C."""

    accepted_seconds: float
    picture_seconds: float
    stopped_seconds: float


async def one_start(folder: Path, renderer: str) -> Start:
    """Start, render one picture, stop. Errors: TimeoutError; RuntimeError where the job or the stop fails."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"FORGE_STATE_DIR": str(folder), "FORGE_GATEWAY_PORT": str(port)}
    began = clock()
    command = (*FORGE, "up", "--quiet", "--renderer", renderer)
    stack = await create_subprocess_exec(*command, env=environment, stdout=DEVNULL)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            job_id = await _accepted(url)
            accepted = clock()
            await _rendered(url, job_id)
            rendered = clock()
            stack.send_signal(signal.SIGINT)
            if (status := await stack.wait()) != 0:
                raise RuntimeError(f"`dreamforge up` ended with {status}")
    finally:
        if stack.returncode is None:
            stack.kill()
    return Start(accepted - began, rendered - began, clock() - rendered)


async def _accepted(url: str) -> str:
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            connection = await HttpConnection.open(url)
            answer = await connection.post("/v1/jobs", {"prompt": "a red star"})
            await connection.close()
            if answer.status == 202:
                return str(answer.body["job_id"])
        await asyncio.sleep(POLL_SECONDS)


async def _rendered(url: str, job_id: str) -> None:
    connection = await HttpConnection.open(url)
    while (status := (await connection.get(f"/v1/jobs/{job_id}")).body["status"]) != "succeeded":
        if status in ("failed", "cancelled", "expired"):
            raise RuntimeError(f"the job has {status}")
        await asyncio.sleep(POLL_SECONDS)
    await connection.close()


async def command_seconds(*arguments: str) -> float:
    """Of one command that needs no stack."""
    began = clock()
    process = await create_subprocess_exec(*FORGE, *arguments, stdout=DEVNULL)
    await process.wait()
    return clock() - began


async def main(rounds: int, renderer: str) -> None:
    """Print a line for each start, and the medians."""
    starts: dict[str, list[Start]] = {"empty folder": [], "same folder": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="dreamforge-start-") as folder:
            for name, found in starts.items():
                found.append(await one_start(Path(folder), renderer))
                print(f"round {number + 1}, {name:13}", _text(found[-1]), flush=True)
    for name, found in starts.items():
        print(f"median,  {name:13}", _text(Start(*map(median, zip(*map(astuple, found), strict=True)))))
    for command in ("--version", "--help", "generate --help"):
        seconds = [await command_seconds(*command.split()) for _ in range(2 * rounds)]
        print(f"dreamforge {command:16} {median(seconds):6.2f} s")


def _text(start: Start) -> str:
    pairs = zip(fields(start), astuple(start), strict=True)
    return "  ".join(f"{each.name.removesuffix('_seconds')} {seconds:6.2f} s" for each, seconds in pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--renderer", choices=("diffusers", "synthetic"), default="diffusers")
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.renderer))
