"""Templates are expanded in a process of its own: some never end or take all memory, and no list of tricks is complete.

It ends after one task. It has none of the gateway's settings or secrets in its environment, reads no files but those of
its interpreter, writes none, and opens no connection.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.request.errors import BatchTooLarge, TemplateRefused

# Importing the libraries takes half a second, and several times that where the processors are busy.
START_SECONDS = 30.0
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Task:
    """The arguments of `templates.expand_templates`."""

    templates: Mapping[str, str]
    wildcards: Mapping[str, Sequence[str]]
    samples: int | None
    seed: int
    maximum: int
    chars: int


_PROMPTS = TypeAdapter(list[dict[str, str]])


class TemplateProcesses:
    """Expands templates, up to AT_ONCE at a time. `cpu_seconds`: the processor time that one may take."""

    def __init__(self, cpu_seconds: int) -> None:
        self._cpu_seconds = cpu_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def expand(self, task: Task) -> list[dict[str, str]]:
        """As `templates.expand_templates`. Errors: its own, TemplateRefused (an overrun), DependencyAway."""
        async with self._slots:
            answer = await self._answer(json.dumps(asdict(task)).encode())
        with contextlib.suppress(ValidationError):
            match answer:
                case {"prompts": found}:
                    return _PROMPTS.validate_python(found)
                case {"field": str(field), "reason": str(reason)}:
                    raise TemplateRefused(field=field, reason=reason)
                case {"maximum": int(maximum)}:
                    raise BatchTooLarge(jobs=None, maximum=maximum)
        reason = f"it takes more than {self._cpu_seconds} s or too much memory to expand"
        raise TemplateRefused(field="/".join(("template", *list(task.templates)[:1])), reason=reason)

    async def _answer(self, task: bytes) -> object:
        """What the process says; None where it said nothing in its time. Errors: DependencyAway (it did not start)."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-Pm",
                "dreamforge.gateway.batches.template_worker",
                str(self._cpu_seconds),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            raise DependencyAway(dependency="template process", reason=str(error)) from error
        try:
            async with asyncio.timeout(START_SECONDS + self._cpu_seconds):
                said, _ = await process.communicate(task)
        except (TimeoutError, OSError):
            said = b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
        with contextlib.suppress(ValueError):
            answer: object = json.loads(said)
            return answer
        return None
