"""Foreign images are decoded in processes of their own: one that takes too long or too much memory costs only itself.

Each process decodes one image at a time, then the next; a process that overruns its limits is killed and replaced.
It has none of the gateway's settings or secrets in its environment, reads no files but those of its interpreter, writes
none, and opens no connection. What it answers is JSON and is checked: a decoder that was taken over could only lie
about one image. What runs in them is `image_worker`.
"""

import asyncio
import base64
import contextlib
import json
import os
import sys
from dataclasses import astuple

from loguru import logger
from pydantic import TypeAdapter, ValidationError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.pictures.foreign.imported import ImportedRequest
from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.submit.image_headers import FORMATS, Header
from dreamforge.gateway.submit.image_tasks import CHANGE, CHANGE_MASK, HEAD, INSPECT, MASK, READ, MaskChange

# Importing Pillow takes half a second, and several times that where the processors are busy.
START_SECONDS = 30.0
_HEADERS, _BOUNDS = TypeAdapter(Header), TypeAdapter(OutOfBounds)
_REQUESTS = TypeAdapter(ImportedRequest)


class ImageProcesses:
    """Decodes images in up to `at_once` processes, which are started when they are needed first."""

    def __init__(self, limits: Limits, *, at_once: int, timeout_seconds: float) -> None:
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(at_once)
        self._idle: list[asyncio.subprocess.Process] = []

    async def inspect(self, data: bytes) -> Header:
        """As `inspect_image.inspect`. Errors: its own, BadPicture (an overrun), DependencyAway (none can start)."""
        return header_of(await self._ask(INSPECT, data))

    async def mask_of_alpha(self, data: bytes) -> bytes:
        """As `inspect_image.mask_of_alpha`; the bytes are as foreign as `data`. Errors: as `inspect`."""
        return mask_of(await self._ask(MASK, data))

    async def changed_mask(self, data: bytes, change: MaskChange) -> bytes:
        """As `inspect_image.changed_mask`; the bytes are as foreign as `data`. Errors: as `inspect`."""
        return mask_of(await self._ask(CHANGE_MASK, CHANGE.pack(*astuple(change)) + data))

    async def read(self, data: bytes) -> ImportedRequest | None:
        """As `read_picture.read_picture`. Errors: as `inspect`."""
        return request_of(await self._ask(READ, data))

    async def _ask(self, task: int, data: bytes) -> object:
        async with self._slots:
            answer = None
            if (idle := self._take_idle()) is not None:
                answer = await self._answer(idle, task, data)  # None: perhaps it had died before, which is known late
            if answer is None:
                answer = await self._answer(await self._start(), task, data)
        if answer is None:
            raise BadPicture("its decoding takes more memory or time than an image of its size needs")
        return answer

    async def _answer(self, process: asyncio.subprocess.Process, task: int, data: bytes) -> object:
        """What a process says; None where it ended. Errors: BadPicture (it took too long)."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await _ask(process, task, data)
        except TimeoutError:
            raise BadPicture(f"it takes more than {self._timeout_seconds:g} s to decode") from None
        except (OSError, EOFError, ValueError):
            return None
        else:
            self._idle.append(process)
            return answer
        finally:
            if process not in self._idle:
                await _end(process)

    def _take_idle(self) -> asyncio.subprocess.Process | None:
        while self._idle:
            if (process := self._idle.pop()).returncode is None:
                return process
        return None

    async def close(self) -> None:
        """End every process."""
        while self._idle:
            await _end(self._idle.pop())

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-Pm",
                "dreamforge.gateway.submit.image_worker",
                self._limits.model_dump_json(),
                str(round(self._timeout_seconds) + 1),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_answer_bytes(self._limits),
                env={"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            raise DependencyAway(dependency="image decoder", reason=str(error)) from error
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await _line_of(process)
        except TimeoutError:
            ready = b""
        if not ready:
            await _end(process)
            raise DependencyAway(dependency="image decoder", reason="it did not start")
        logger.debug("image decoder {} is ready", process.pid)
        return process


async def _ask(process: asyncio.subprocess.Process, task: int, data: bytes) -> object:
    """Errors: OSError or EOFError (it ended), ValueError (its answer cannot be read)."""
    assert process.stdin is not None
    process.stdin.write(HEAD.pack(task, len(data)))
    process.stdin.write(data)
    await process.stdin.drain()
    line = await _line_of(process)
    if not line:
        raise EOFError
    answer: object = json.loads(line)
    return answer


async def _line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())


def header_of(answer: object) -> Header:
    """What a process found, if it answered in one of our forms. Errors: BadPicture, OutOfBounds, as it found."""
    with contextlib.suppress(ValidationError):
        match answer:
            case {"header": fields}:
                header = _HEADERS.validate_json(json.dumps(fields), strict=True)
                if header.content_type in FORMATS:
                    return header
    raise _refusal_in(answer)


def mask_of(answer: object) -> bytes:
    """As `header_of`, of a mask."""
    match answer:
        case {"mask": str(text)}:
            with contextlib.suppress(ValueError):
                return base64.b64decode(text, validate=True)
    raise _refusal_in(answer)


def request_of(answer: object) -> ImportedRequest | None:
    """As `header_of`, of the request in a picture; None where there is none."""
    with contextlib.suppress(ValidationError):
        match answer:
            case {"request": None}:
                return None
            case {"request": fields}:
                return _REQUESTS.validate_json(json.dumps(fields), strict=True)
    raise _refusal_in(answer)


def _refusal_in(answer: object) -> BadPicture | OutOfBounds:
    with contextlib.suppress(ValidationError):
        match answer:
            case {"out_of_bounds": fields}:
                return _BOUNDS.validate_json(json.dumps(fields), strict=True)
            case {"refused": str(reason)}:
                return BadPicture(reason[:300])
    return BadPicture("its decoder did not say what it found")


def _answer_bytes(limits: Limits) -> int:
    """The longest answer: a mask in base64."""
    return 64 * 1024 + 2 * limits.upload_bytes
