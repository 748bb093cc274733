"""Two commits in turns: `task bench:compare -- BASE [--rounds 10]`, BASE a revision of git.

BASE is checked out into a temporary folder with an environment of its own, made as `task setup` makes it. Then each
round runs the benchmarks of *this* checkout once with the packages of each side, in alternating order. Ratios are of
this checkout to BASE; how they are judged stands in `bench.comparison`.

Exit status: 0 when nothing is worse beyond noise, 1 when something is, 2 when a benchmark did not run on both sides, or
when so few rounds cannot find anything.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import results
from bench.comparison import MOST_ROUNDS, Pairs, Verdict, ratio, rounds_needed, verdicts
from bench.results import Benchmark, Metric

ROOT = Path(__file__).parents[1]
#: Short runs of what must not get slower: about 45 s a side and round on two cores.
BENCHMARKS = {
    "eventstore": ("--events", "2000"),
    "pipeline": ("--jobs", "1000", "--seconds", "8"),
    "projection": ("--events", "30000"),
}
TOLERANCE = 0.03
#: A 99th percentile of so short a run is its second worst of 160: printed by `task bench`, judged by nobody.
UNJUDGED = "_p99"


class CannotCompare(Exception):
    """What went wrong, for whoever started the comparison."""


@dataclass(slots=True)
class Rounds:
    """The metrics of one benchmark, of both sides."""

    base: list[list[Metric]] = field(default_factory=list)
    new: list[list[Metric]] = field(default_factory=list)


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The python of a checkout of `revision` in a temporary folder; removed afterwards."""
    if subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd=ROOT,
                      stdout=subprocess.DEVNULL, check=False).returncode:  # fmt: skip
        raise CannotCompare(f"{revision!r} is no revision of this repository")
    with tempfile.TemporaryDirectory(prefix="bench-base-") as name:
        Path(name).chmod(0o755)  # for root, Postgres runs as another user and must reach its program in there
        folder = Path(name) / "base"
        _call(["git", "worktree", "add", "--quiet", "--detach", str(folder), revision], ROOT)
        try:
            _call(["uv", "sync", "--quiet", "--inexact"], folder)
            python = folder / ".venv/bin/python"
            _call([str(python), "-m", "dreamforge.cli.setup_machine", "--quiet"], folder)
            yield python
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=False)


def _call(command: list[str], folder: Path) -> None:
    answer = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise CannotCompare(f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stderr[-2000:]}")


def _environment() -> dict[str, str]:
    """Without the environment that this process is in: each side has its own."""
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


def run(python: Path, name: str, options: tuple[str, ...]) -> list[Metric]:
    """One benchmark of this checkout with the packages of `python`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        _call([str(python), "-m", f"bench.{name}", *options, "--json", str(path)], ROOT)
        return [metric for metric, _ in results.read(path)[name].metrics]


def measure(base: Path, new: Path, names: list[str], rounds: int) -> dict[str, Rounds]:
    """Every benchmark on both sides; which one is first changes from round to round."""
    found = {name: Rounds() for name in names}
    for number in range(rounds):
        for name in names:
            sides = [(base, found[name].base), (new, found[name].new)]
            for python, into in sides if number % 2 == 0 else reversed(sides):
                into.append(run(python, name, BENCHMARKS[name]))
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
    return found


def pairs_of(base: Benchmark, new: Benchmark) -> dict[str, Pairs]:
    """The metrics that both sides have and that are judged."""
    others = {metric.name: values for metric, values in new.metrics}
    return {
        metric.name: Pairs(values, others[metric.name], metric.better == "higher")
        for metric, values in base.metrics
        if metric.name in others and not metric.name.endswith(UNJUDGED)
    }


def print_table(base: dict[str, Benchmark], pairs: dict[str, Pairs], judged: dict[str, Verdict]) -> None:
    """One line a metric."""
    units = {f"{name} {metric.name}": metric.unit for name, each in base.items() for metric, _ in each.metrics}
    print(f"{'':<46} {'base':>10} {'new':>10} {'':<9} {'new/base':>8}   95 % interval")
    for name, both in pairs.items():
        found = ratio(both.base, both.new)
        verdict = judged[name] if judged[name] != "equal" else ""
        print(
            f"{name:<46} {median(both.base):>10.2f} {median(both.new):>10.2f} {units[name]:<9} {found.mean:>8.3f}"
            f"   {found.low:.3f} to {found.high:.3f}  {verdict}"
        )


def compare(arguments: argparse.Namespace) -> int:
    """Measure, print and write; the exit status."""
    with checkout(arguments.base) as base_python:
        found = measure(base_python, Path(sys.executable), arguments.only, arguments.rounds)
    commands = {name: " ".join(("python -m", f"bench.{name}", *BENCHMARKS[name])) for name in found}
    base = {name: results.joined(commands[name], each.base) for name, each in found.items()}
    new = {name: results.joined(commands[name], each.new) for name, each in found.items()}
    pairs = {f"{name} {metric}": both for name in found for metric, both in pairs_of(base[name], new[name]).items()}
    judged = verdicts(pairs, arguments.tolerance)
    print_table(base, pairs, judged)
    results.write(
        arguments.json, new, base_revision=arguments.base, verdicts=judged,
        base={name: each.as_json() for name, each in base.items()},
    )  # fmt: skip
    worse = [name for name, verdict in judged.items() if verdict == "worse"]
    print(f"worse beyond noise: {', '.join(worse)}" if worse else "nothing is worse beyond noise")
    if (needed := rounds_needed(len(pairs))) > arguments.rounds:
        print(f"{arguments.rounds} rounds cannot find one of {len(pairs)} metrics worse: it takes {needed}")
        return 2
    return 1 if worse else 0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a revision of git")
    parser.add_argument("--rounds", type=int, default=10, choices=range(1, MOST_ROUNDS + 1), metavar="N")
    parser.add_argument("--only", nargs="+", choices=tuple(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help=f"a smaller loss is let pass (default {TOLERANCE:g})"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "out/compare.json", metavar="FILE")
    return parser.parse_args(words)


def main() -> int:
    """The command."""
    try:
        return compare(parse())
    except CannotCompare as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
