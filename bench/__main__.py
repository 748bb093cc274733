"""Every benchmark of the system in one run: `task bench` or `python -m bench`.

Others have a command of their own, each with --help: `python -m bench.runner`, `bench.overlap`, `bench.loading`,
`bench.recovery`, `bench.chaos`, `bench.fleet`, `bench.authentication`, `bench.planning`,
`bench.tracing`, `bench.start`, `bench.archive`, `bench.scale`.
"""

import argparse
import asyncio
import subprocess
import sys

from bench import eventstore, pipeline


def main() -> None:
    """Print one section after the other; a benchmark that cannot run says so and fails the run."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("== the event store against raw JetStream publishing ==")
    asyncio.run(eventstore.main(events=4_000))
    print("\n== the whole pipeline ==")
    asyncio.run(pipeline.main(pipeline.parse([])))
    print("\n== the projection against a plain COPY of the same rows ==", flush=True)
    subprocess.run([sys.executable, "-m", "bench.projection"], check=True)


if __name__ == "__main__":
    main()
