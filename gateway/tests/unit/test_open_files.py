"""The gateway asks for as many open files as its event streams need, in a process of its own."""

import resource
import subprocess
import sys

import pytest

ASK = (
    "import resource; from dreamforge.gateway.http.server import allow_files; allow_files(2000);"
    "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
)


@pytest.mark.parametrize(
    ("soft", "hard", "granted", "said"),
    [(256, 4096, 2000, ""), (3000, 4096, 3000, ""), (256, 1500, 1500, "only 1500 files may be open, and 2000")],
)
def test_it_asks_for_what_is_allowed_and_says_what_is_missing(soft: int, hard: int, granted: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) == granted
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)
