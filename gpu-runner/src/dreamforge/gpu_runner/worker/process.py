"""The child process: owns torch and the GPU, gets its tasks over a socket, and can be killed at any time.

    python -m dreamforge.gpu_runner.worker --fd 7 --options '{"renderer": "diffusers"}'

It knows nothing of the bus. Standard output is free for logs: libraries print what they like there.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from loguru import logger

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.optimisations import named_optimisations
from dreamforge.gpu_runner.machine.compile_cache import compile_cache
from dreamforge.gpu_runner.machine.libraries import ENVIRONMENT
from dreamforge.gpu_runner.machine.memory import leave_first_when_memory_is_full
from dreamforge.gpu_runner.machine.resident_set import resident_set
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import Ready, Render, Starting, Stop
from dreamforge.gpu_runner.rendering.renderer import Renderer
from dreamforge.gpu_runner.worker import sandbox
from dreamforge.gpu_runner.worker.connection import EXIT_OK, Inbox, Outbox, start_reader
from dreamforge.gpu_runner.worker.finishing import AtOnce, Finishing, FinishingThread
from dreamforge.gpu_runner.worker.task_runner import TaskRunner
from dreamforge.runtime import clock
from dreamforge.runtime.service.gc_tuning import leave_out_imports
from dreamforge.runtime.service.telemetry import configure_logging

#: EX_OSERR of sysexits.h: the operating system failed, here its GPU. The supervisor starts a new child.
EXIT_DEVICE_LOST = 71


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one socket until Stop, or until the supervisor is gone."""
    arguments = _parser().parse_args(argv)
    options: ChildOptions = arguments.options
    configure_logging("gpu-runner-child", level=options.log_level, as_json=options.log_json)
    _ignore_signals_of_the_terminal()
    leave_first_when_memory_is_full()
    writable = _prepare_environment(options)
    resident_set()  # it opens what the sandbox does not let it open later
    line = sandbox.enter(options.sandbox, writable)
    logger.log("INFO" if line.startswith("sandbox") else "WARNING", line)
    sock = socket.socket(fileno=arguments.fd)
    inbox, outbox = Inbox(), Outbox(sock)
    start_reader(sock, inbox)
    try:
        # Cycles are searched for when a model leaves, too: through all of torch that took 0.5 s of a slow processor.
        with leave_out_imports():
            renderer = _start_renderer(options, outbox)
        _report_ready(renderer, outbox)
        finishing: Finishing = AtOnce() if renderer.instant else FinishingThread()
        runner = TaskRunner(
            renderer,
            send=outbox.send,
            clock=clock.monotonic_seconds,
            finishing=finishing,
            upcoming=inbox.upcoming,
        )
        _serve(runner, inbox, slots=options.slots)
        finishing.flush()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the supervisor is gone, and this thread noticed before the reader did
    return EXIT_OK


def _start_renderer(options: ChildOptions, outbox: Outbox) -> Renderer:
    if options.renderer == "synthetic":
        from dreamforge.gpu_runner.rendering.synthetic import SyntheticRenderer

        return SyntheticRenderer(step_delay_seconds=options.step_delay_seconds)
    started = clock.monotonic_seconds()
    outbox.send(Starting(stage="import", elapsed_seconds=0.0))
    # Seconds of import, and only for the renderer that needs it.
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features
    from dreamforge.gpu_runner.rendering.renderer_by_model import RendererByModel

    outbox.send(Starting(stage="device", elapsed_seconds=clock.monotonic_seconds() - started))
    pipelines = DiffusersRenderer(
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
        resident_bytes=options.resident_bytes,
        device_shares=options.device_shares,
        features=partial(standard_features, optimisations=named_optimisations(options.optimisations)),
    )
    return RendererByModel(pipelines)


def _report_ready(renderer: Renderer, outbox: Outbox) -> None:
    report = renderer.device_report()
    outbox.send(
        Ready(
            engine=renderer.engine,
            total_bytes=report.total_bytes,
            free_bytes=report.free_bytes,
            driver=report.driver,
            note=report.note,
            quantisations=dict(report.quantisations),
        )
    )


def _serve(runner: TaskRunner, inbox: Inbox, *, slots: int) -> None:
    threads = [threading.Thread(target=_work, args=(runner, inbox), name=f"slot-{n}") for n in range(1, slots)]
    for thread in threads:
        thread.start()
    _work(runner, inbox)
    for thread in threads:
        thread.join()


def _work(runner: TaskRunner, inbox: Inbox) -> None:
    while not isinstance(message := inbox.next(), Stop):
        if not isinstance(message, Render):
            runner.load(message)
            continue
        reason = runner.render(message.tasks, inbox.is_cancelled)
        inbox.forget(*(task.task_id for task in message.tasks))
        if reason is FailureReason.CHILD_CRASHED:
            os._exit(EXIT_DEVICE_LOST)


def _ignore_signals_of_the_terminal() -> None:
    # Ctrl-C and a service manager's TERM reach the whole process group; the supervisor decides when its
    # child leaves, so that the running job can finish. Closing the socket or SIGKILL always works.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _prepare_environment(options: ChildOptions) -> tuple[Path, ...]:
    """What torch reads when it is imported; folders to write to."""
    if options.renderer == "synthetic":
        return ()
    folder = Path(options.compile_cache) if options.compile_cache else None
    kept = {} if folder is None else compile_cache(folder, options.compile_cache_bytes)
    os.environ.update(kept)  # no other folder can be written to
    for name, value in {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": str(options.gpu_index)}.items():
        os.environ.setdefault(name, value)
    return () if folder is None else (folder,)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dreamforge.gpu_runner.worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--options", type=ChildOptions.model_validate_json, default=ChildOptions())
    return parser


def leave(status: int) -> NoReturn:
    """End the process without taking apart what torch has made: that takes one to three seconds, and frees no more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
