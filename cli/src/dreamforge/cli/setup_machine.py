"""Check the installed packages against their pins, and install the torch build that fits this machine.

The lock file leaves torch out, because one version has many builds, and which one fits depends on the machine: a
wheel in PIP_FIND_LINKS or UV_FIND_LINKS, the CUDA build with an NVIDIA driver, else the CPU build. Quick when torch is
installed, and standard library only, because every task depends on it.
"""

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import invalidate_caches, metadata, util
from pathlib import Path
from typing import Any

TORCH_VERSION = "2.13.0"
# Importing these without bytecode takes 16-18 s on two cores, with it 4.5 s (docs/measurements).
SLOW_TO_IMPORT = ("torch", "diffusers", "transformers")
EXIT_FAILED = 1


class SetupFailed(Exception):
    """No build of torch could be installed; the message says how to solve it."""


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """A build of torch: a title for people and the options for `uv pip install`."""

    title: str
    options: tuple[str, ...]


def links_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The configured locations of wheels, in order.

    >>> links_from({"PIP_FIND_LINKS": "/a /b", "UV_FIND_LINKS": "/b,/c"})
    ('/a', '/b', '/c')
    """
    text = f"{environment.get('PIP_FIND_LINKS', '')} {environment.get('UV_FIND_LINKS', '')}"
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def is_fitting(installed: str | None, *, has_driver: bool, links: Sequence[str]) -> bool:
    """Whether the installed build is the one to choose; makes no request.

    >>> is_fitting("2.13.0+cpu", has_driver=False, links=())
    True
    >>> is_fitting("2.13.0+cpu", has_driver=True, links=())
    False
    """
    if installed is None or installed.split("+")[0] != TORCH_VERSION:
        return False
    return not (has_driver and not links and installed.endswith("+cpu"))


def builds(*, has_driver: bool, offered: Sequence[str]) -> tuple[TorchBuild, ...]:
    """The builds to try, best first. Without a driver none of them installs a CUDA package."""
    if offered:
        options = tuple(option for link in offered for option in ("--find-links", link))
        return (TorchBuild(f"the wheel offered in {', '.join(offered)}", ("--no-index", *options)),)
    if has_driver:
        return (
            TorchBuild("the CUDA build for this driver", ("--torch-backend=auto",)),
            TorchBuild("the CUDA build of the default index", ()),
        )
    return (TorchBuild("the CPU build", ("--torch-backend=cpu",)),)


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA driver; under WSL only its tool shows it."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def installed_version(distribution: str) -> str | None:
    """The version in this environment, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def uv_pip_install(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run uv outside the workspace, because the workspace overrides torch to keep it out of the lock."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise SetupFailed("uv is not on PATH: pip install uv")
    command = (uv, "pip", "install", "--quiet", "--python", sys.executable, *arguments)
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def offered_by(links: Sequence[str]) -> tuple[str, ...]:
    """The locations where uv finds a wheel of the version for this Python and platform."""
    found = (str(Path(link).resolve()) if Path(link).exists() else link for link in links)
    wanted = f"torch=={TORCH_VERSION}"
    probe = ("--dry-run", "--no-index", "--no-deps", "--reinstall")
    return tuple(link for link in found if uv_pip_install(*probe, "--find-links", link, wanted).returncode == 0)


def pinned_date(project: Path) -> tuple[str, ...]:
    """The workspace's exclude-newer as an option, so that dependencies of torch are pinned as all others."""
    date = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["uv"]["exclude-newer"]
    return ("--exclude-newer", str(date))


def install_torch(project: Path) -> None:
    """Install the fitting build and its dependencies. Errors: SetupFailed with each build and its error."""
    wanted = f"torch=={TORCH_VERSION}"
    tried = []
    for build in builds(has_driver=has_nvidia_driver(), offered=offered_by(links_from(os.environ))):
        say(f"installing torch {TORCH_VERSION}: {build.title}")
        # Torch alone first: its wheels have no upload date, by which its dependencies are pinned.
        result = uv_pip_install(*build.options, "--no-deps", "--reinstall-package", "torch", wanted)
        if result.returncode == 0:
            result = uv_pip_install(*pinned_date(project), wanted)
        if result.returncode == 0:
            invalidate_caches()
            return
        tried.append(f"{build.title}:\n{result.stderr.strip()}")
    raise SetupFailed(
        f"torch {TORCH_VERSION} could not be installed\n"
        + "\n".join(tried)
        + f"\n\nPut a torch {TORCH_VERSION} wheel for this Python into a folder and name it in "
        "PIP_FIND_LINKS, or make the index of PyTorch reachable; then run `task setup` again."
    )


def unpinned_files(lock: Mapping[str, Any], pins: str) -> tuple[str, ...]:  # Any: parsed TOML
    """The packages of `uv.lock` with a file whose hash `requirements.lock` does not have.

    uv installs only what has a hash of `uv.lock`, which is resolved anew on each machine: so an index that offers other
    bytes under a pinned version is found here.

    >>> wheels = [{"hash": "sha256:0b"}]
    >>> package = {"name": "a", "version": "1", "source": {"registry": "r"}, "wheels": wheels}
    >>> unpinned_files({"package": [package]}, "a==1 --hash=sha256:0a"), unpinned_files({"package": []}, "")
    (('a 1',), ())
    """
    known = set(re.findall(r"sha256:[0-9a-f]+", pins))
    found = []
    for package in lock["package"]:
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        if "registry" in package["source"] and not {file["hash"] for file in files} <= known:
            found.append(f"{package['name']} {package['version']}")
    return tuple(found)


def require_pinned(folder: Path) -> None:
    """Check what uv resolved against the pins of the repository. Errors: SetupFailed."""
    lock, pins = folder / "uv.lock", folder / "requirements.lock"
    if not lock.exists():
        return  # installed from wheels of a release: there is nothing to compare
    found = unpinned_files(tomllib.loads(lock.read_text(encoding="utf-8")), pins.read_text(encoding="utf-8"))
    if found:
        raise SetupFailed(
            f"the index offers files that requirements.lock does not know: {', '.join(found)}. Do not run them: either "
            "the index was changed, or pyproject.toml was, and `task lock` has not been run."
        )


def compile_bytecode() -> bool:
    """Compile packages that are slow to import, once a version; False if they are compiled."""
    marker = Path(sys.prefix) / ".dreamforge-bytecode"
    versions = " ".join(f"{name}={installed_version(name)}" for name in SLOW_TO_IMPORT)
    if marker.exists() and marker.read_text(encoding="utf-8") == versions:
        return False
    say(f"compiling {', '.join(SLOW_TO_IMPORT)} to bytecode: about 25 s once, and each start is 12 s quicker for it")
    for name in SLOW_TO_IMPORT:
        spec = util.find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            compileall.compile_dir(folder, quiet=2, workers=0)
    marker.write_text(versions, encoding="utf-8")
    return True


def say(line: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(f"setup: {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit code 0 when torch is installed, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="task setup", description="Install the torch that fits this machine.")
    parser.add_argument("--project", type=Path, default=Path("pyproject.toml"), help="the workspace's pyproject.toml")
    parser.add_argument("--quiet", action="store_true", help="print nothing if torch is already installed")
    options = parser.parse_args()
    try:
        require_pinned(options.project.parent)
        before = installed_version("torch")
        if not is_fitting(before, has_driver=has_nvidia_driver(), links=links_from(os.environ)):
            install_torch(options.project)
            before = None
        worked = compile_bytecode() or before is None
    except SetupFailed as failure:
        sys.stderr.write(f"setup: {failure}\n")
        return EXIT_FAILED
    if worked or not options.quiet:
        say(f"torch {installed_version('torch')} is installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
