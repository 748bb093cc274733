"""Processor time of each process of a stack: what a job costs, where the wall clock of a busy machine says little."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil
from bench.results import Metric

from dreamforge.cli.stack_record import RunningProcess

UNIT = "us/job"
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """User and system seconds since the start of a process: its own, and those of every process that it started."""

    own_seconds: float
    children_seconds: float


def processor_times(processes: Iterable[RunningProcess]) -> dict[str, ProcessorTime]:
    """By name; this process is the client. Children that have ended count as far as their parents waited for them.

    Errors: psutil.Error for a process that is gone.
    """
    found = {process.name: _time_of(psutil.Process(process.pid)) for process in processes}
    here = psutil.Process().cpu_times()
    return found | {CLIENT: ProcessorTime(here.user + here.system, 0.0)}


def _time_of(process: psutil.Process) -> ProcessorTime:
    own = process.cpu_times()
    ended = own.children_user + own.children_system
    children = (child.cpu_times() for child in process.children(recursive=True))
    running = sum(t.user + t.system + t.children_user + t.children_system for t in children)
    return ProcessorTime(own.user + own.system, ended + running)


def per_job(before: Mapping[str, ProcessorTime], after: Mapping[str, ProcessorTime], jobs: int) -> list[Metric]:
    """Of each process and of its children, where it has some, and `processor_system`: all but the client."""
    found: dict[str, float] = {}
    for process, began in before.items():
        name = f"processor_{process.replace('-', '_')}"
        found[name] = after[process].own_seconds - began.own_seconds
        if after[process].children_seconds:
            found[f"{name}_children"] = after[process].children_seconds - began.children_seconds
    found["processor_system"] = sum(found.values()) - found[f"processor_{CLIENT}"]
    return [Metric(name, 1e6 * seconds / jobs, UNIT, "lower") for name, seconds in found.items()]
