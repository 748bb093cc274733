"""A decoder that overruns its limits costs one upload, and nothing else."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.submit.image_process import ImageProcesses, header_of
from dreamforge.gateway.submit.image_tasks import MaskChange
from dreamforge.runtime.sandbox.restrict import missing
from dreamforge.runtime.testing import eventually

LIMITS = Limits(upload_pixels=64 * 64)


def png(width_px: int = 24, height_px: int = 16) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "red").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
async def processes() -> AsyncIterator[ImageProcesses]:
    processes = ImageProcesses(LIMITS, at_once=2, timeout_seconds=20)
    yield processes
    await processes.close()


def process_file(pid: int, name: str) -> bytes:
    """What the kernel says of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def children() -> set[int]:
    """The decoders that this process has started."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {
        int(pid)
        for file in found
        for pid in file.read_text().split()
        if b"image_worker" in process_file(int(pid), "cmdline")
    }


async def test_images_are_judged_as_in_this_process(processes: ImageProcesses) -> None:
    headers = await asyncio.gather(*(processes.inspect(png()) for _ in range(5)))
    assert {(header.width_px, header.height_px) for header in headers} == {(24, 16)}
    mask = await processes.changed_mask(png(), MaskChange(inverted=True))
    assert Image.open(io.BytesIO(mask)).convert("L").getextrema() == (255 - 76, 255 - 76)  # red as a grey is 76
    with pytest.raises(OutOfBounds, match="mask_blur is 2000"):
        await processes.changed_mask(png(), MaskChange(blur_x_px=2000.0))
    with pytest.raises(BadPicture, match="its first bytes"):
        await processes.inspect(b"no picture")
    with pytest.raises(OutOfBounds, match="pixels is 4160"):
        await processes.inspect(png(65, 64))
    assert len(children()) == 2


async def test_a_decoder_that_takes_too_long_is_killed_and_replaced(
    processes: ImageProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    await processes.inspect(png())
    (stopped,) = children()
    os.kill(stopped, signal.SIGSTOP)
    with monkeypatch.context() as impatient:
        impatient.setattr(processes, "_timeout_seconds", 0.1)
        with pytest.raises(BadPicture, match=r"takes more than 0\.1 s to decode"):
            await processes.inspect(png())
    assert stopped not in children()
    assert (await processes.inspect(png())).width_px == 24
    await processes.close()
    assert not children()


async def test_a_decoder_that_has_died_costs_nothing(processes: ImageProcesses) -> None:
    await processes.inspect(png())
    (first,) = children()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: first not in children())
    assert (await processes.inspect(png())).width_px == 24


async def test_a_decoder_has_limits_and_no_secrets(processes: ImageProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_S3_SECRET_KEY", "not for a decoder")
    await processes.inspect(png())
    (pid,) = children()
    lines = process_file(pid, "limits").decode().splitlines()
    limits = {line[:25].strip(): line[26:].split() for line in lines}
    assert int(limits["Max address space"][1]) < 2 * 1024**3
    assert limits["Max file size"][1] == "0"
    assert int(limits["Max cpu time"][0]) < 30
    assert b"FORGE_" not in process_file(pid, "environ")
    status = process_file(pid, "status").decode().splitlines()
    said = dict(line.split(":\t", 1) for line in status)
    assert int(said["CapEff"], 16) == 0
    assert said["NoNewPrivs"] == "1"
    if not missing():
        assert said["Seccomp"] == "2"


TAKEN_OVER = """
import socket, sys
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.{module} import _limit_this_process
_limit_this_process({argument})
for attack in (lambda: socket.socket(), lambda: socket.socket(socket.AF_UNIX), lambda: open(sys.argv[1])):
    try:
        attack()
    except PermissionError as error:
        print(error.strerror)
"""


@pytest.mark.skipif(bool(missing()), reason=f"not here: {'; '.join(missing())}")
@pytest.mark.parametrize(
    ("module", "argument"), [("submit.image_worker", "Limits()"), ("batches.template_worker", "3")]
)
def test_one_that_was_taken_over_has_no_network_and_no_files(module: str, argument: str, tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("a secret")
    command = [sys.executable, "-Pc", TAKEN_OVER.format(module=module, argument=argument), str(tmp_path / "seed")]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Operation not permitted", "Operation not permitted", "Permission denied"]


GOOD = {"content_type": "image/png", "width_px": 8, "height_px": 8, "end": 100}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "header",
        {},
        {"header": None},
        {"header": {}},
        {"header": GOOD | {"width_px": "8"}},
        {"header": GOOD | {"content_type": "text/html"}},
        {"out_of_bounds": {"field": 1}},
        {"refused": 1},
    ],
)
def test_a_decoder_that_was_taken_over_is_not_believed(answer: object) -> None:
    with pytest.raises(BadPicture, match="did not say what it found"):
        header_of(answer)


def test_what_a_decoder_found_is_passed_on() -> None:
    assert header_of({"header": GOOD}).height_px == 8
    with pytest.raises(OutOfBounds, match="pixels is 9"):
        header_of({"out_of_bounds": {"field": "pixels", "value": 9, "minimum": 1, "maximum": 4}})
    with pytest.raises(BadPicture, match="truncated"):
        header_of({"refused": "it is truncated"})
