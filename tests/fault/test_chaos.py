"""A short fault injection run in every run of the fault tests; `python -m bench.chaos` makes longer ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.fault
@pytest.mark.timeout(280)
def test_nothing_is_lost_and_nothing_happens_twice_while_everything_is_killed(tmp_path: Path) -> None:
    seed = os.environ.get("FORGE_CHAOS_SEED", "1")
    options = f"--jobs 80 --kills 16 --seconds 25 --settle-seconds 90 --seed {seed} --keep --folder {tmp_path}/run"
    run = subprocess.run(
        [sys.executable, "-m", "bench.chaos", *options.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-3000:]
