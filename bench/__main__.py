"""Every benchmark of the system in one run: `task bench` or `python -m bench`; results as JSON in out/bench.json.

Others have a command of their own, each with --help: `python -m bench.runner`, `bench.overlap`, `bench.loading`,
`bench.recovery`, `bench.chaos`, `bench.fleet`, `bench.authentication`, `bench.planning`, `bench.peers`,
`bench.queue_cases`, `bench.tracing`, `bench.start`, `bench.archive`, `bench.scale`, `bench.growth`,
`bench.accepting`, `bench.hops`.
`python -m bench.compare BASE` runs those of this command in turns with another commit.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import results

ROOT = Path(__file__).parents[1]
TITLES = {
    "eventstore": "the event store against raw JetStream publishing",
    "pipeline": "the whole pipeline",
    "projection": "the projection against a plain COPY of the same rows",
}


def main() -> None:
    """Run one after the other, each in a process of its own; one that cannot run says so and fails the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "out/bench.json", metavar="FILE")
    arguments = parser.parse_args()
    found: dict[str, results.Benchmark] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, title in TITLES.items():
            print(f"== {title} ==", flush=True)
            path = Path(folder) / f"{name}.json"
            subprocess.run([sys.executable, "-m", f"bench.{name}", "--json", str(path)], cwd=ROOT, check=True)
            found |= results.read(path)
            print()
    results.write(arguments.json, found)
    print(f"results: {arguments.json}")


if __name__ == "__main__":
    main()
