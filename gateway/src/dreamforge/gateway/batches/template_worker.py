"""The process that expands one template, with bounds on its time and memory, and ends. See `template_process`.

It imports little, so that it starts in a third of a second.
"""

import json
import os
import resource
import sys

from dreamforge.contracts.request.errors import BatchTooLarge, TemplateRefused
from dreamforge.gateway.batches.templates import expand_templates
from dreamforge.runtime.sandbox.restrict import Allowed, of_the_interpreter, restrict_process

# The interpreter with pyparsing maps some 100 MiB; a template needs little.
MEMORY_BYTES = 512 * 1024**2


def _limit_this_process(cpu_seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # the gateway answers first
    restrict_process(Allowed(readable=of_the_interpreter()))


def _answer(task: bytes) -> dict[str, object]:
    fields = json.loads(task)
    templates, wildcards = fields.pop("templates"), fields.pop("wildcards")
    try:
        return {"prompts": expand_templates(templates, wildcards, **fields)}
    except TemplateRefused as error:
        return {"field": f"template/{error.field}", "reason": error.reason}
    except BatchTooLarge as error:
        return {"maximum": error.maximum}


if __name__ == "__main__":
    _limit_this_process(int(sys.argv[1]))
    sys.stdout.write(json.dumps(_answer(sys.stdin.buffer.read())))
