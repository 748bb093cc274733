"""Clocks of the services of one host, which libfaketime moves while they run."""

from pathlib import Path

LIBRARIES = tuple(
    Path(f"/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1") for machine in ("x86_64", "aarch64")
)
# A runner gives its child of the environment what it is told to.
CHILDREN = {
    "FORGE_RUNNER_CHILD_ENVIRONMENT": "FAKETIME_TIMESTAMP_FILE,FAKETIME_CACHE_DURATION,FAKETIME_DONT_FAKE_MONOTONIC"
}


def clock_file(folder: Path, host: str) -> Path:
    """Says by how much the clock of a host is moved, as `+300`."""
    return folder / f"clock-{host}"


def clock_environment(folder: Path, host: str) -> dict[str, str]:
    """Lets the clock of a host's services be moved while they run. Errors: RuntimeError without libfaketime."""
    library = next((path for path in LIBRARIES if path.exists()), None)
    if library is None:
        raise RuntimeError("faults of clocks need libfaketime: install it (Debian: apt install libfaketime)")
    clock = clock_file(folder, host)
    clock.write_text("+0\n")
    clock.chmod(0o644)
    return CHILDREN | {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
