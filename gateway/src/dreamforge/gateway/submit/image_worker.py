"""The process in which foreign images are decoded: see `image_process`, which starts it and says what it may do."""

import base64
import json
import os
import resource
import sys
from dataclasses import asdict
from typing import BinaryIO

from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.submit.image_tasks import CHANGE, CHANGE_MASK, HEAD, MASK, READ, MaskChange
from dreamforge.gateway.submit.inspect_image import changed_mask, inspect, mask_of_alpha
from dreamforge.gateway.submit.read_picture import read_picture
from dreamforge.runtime.sandbox.restrict import Allowed, of_the_interpreter, restrict_process

# The interpreter with Pillow maps some 200 MiB; a decoder may hold up to 16 bytes a pixel (CMYK with a copy, or WebP).
BASE_BYTES = 512 * 1024**2
BYTES_PER_PIXEL = 16


def _limit_this_process(limits: Limits) -> None:
    memory_bytes = BASE_BYTES + BYTES_PER_PIXEL * limits.upload_pixels + 2 * limits.upload_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # the gateway answers first
    restrict_process(Allowed(readable=of_the_interpreter()))


def _allow_seconds(cpu_seconds: int) -> None:
    """Let this process use so much processor time from now on; then the kernel ends it, even without a gateway."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _work(limits: Limits, cpu_seconds: int, tasks: BinaryIO, answers: BinaryIO) -> None:
    _limit_this_process(limits)
    _write(answers, {"ready": True})
    while head := tasks.read(HEAD.size):
        task, size_bytes = HEAD.unpack(head)
        data = tasks.read(size_bytes)
        _allow_seconds(cpu_seconds)
        try:
            _write(answers, _done(task, data, limits))
        except OutOfBounds as error:
            _write(answers, {"out_of_bounds": asdict(error)})
        except BadPicture as error:
            _write(answers, {"refused": error.reason})


def _done(task: int, data: bytes, limits: Limits) -> dict[str, object]:
    """Errors: OutOfBounds, BadPicture."""
    if task == MASK:
        return {"mask": base64.b64encode(mask_of_alpha(data, limits)).decode()}
    if task == CHANGE_MASK:
        change = MaskChange(*CHANGE.unpack_from(data))
        return {"mask": base64.b64encode(changed_mask(data[CHANGE.size :], change, limits)).decode()}
    if task == READ:
        found = read_picture(data, limits)
        return {"request": found and asdict(found)}
    return {"header": asdict(inspect(data, limits))}


def _write(answers: BinaryIO, answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    _work(Limits.model_validate_json(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
