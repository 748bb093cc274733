"""The conformance suite of the Model Context Protocol (npm), against `/mcp`.

Most of its scenarios call tools, prompts and resources of a server that is written for the suite:
`mcp_conformance.yml` names those that no other server can pass. The suite fails where one of them passes.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm"),
    pytest.mark.timeout(300),
]
EXPECTED = Path(__file__).with_name("mcp_conformance.yml")
# The suite needs node 22, which this package of npm brings along.
PACKAGES = ("node@22.23.3", "@modelcontextprotocol/conformance@0.1.16")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite and its node."""
    folder = tmp_path_factory.mktemp("conformance")
    install = ["npm", "install", "--no-audit", "--no-fund", *PACKAGES]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=240)
    return folder


def test_what_any_server_must_do_is_done(installed: Path, gateway_url: str) -> None:
    path = os.pathsep.join([str(installed / "node_modules" / ".bin"), os.environ["PATH"]])
    command = ["conformance", "server", "--url", f"{gateway_url}/mcp", "--expected-failures", str(EXPECTED)]
    ended = subprocess.run(
        command, cwd=installed, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=180
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
