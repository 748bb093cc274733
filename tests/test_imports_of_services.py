"""A service imports only what its start and its first job need: the rest is imported where it is used.

The time of a start is that of its imports, and modules are what can be counted on any machine.
"""

import json
import subprocess
import sys

import pytest

# Of no service: what renders and reads pictures, what migrates, HTTP clients, cryptography of tokens and certificates,
# what is only for terminals or tests, and FastStream, which a runner imports while its worker starts.
OF_NONE = (
    *("torch", "numpy", "PIL", "alembic", "httpx", "httpcore", "joserfc"),
    *("cryptography", "rich", "pygments", "typer", "faststream"),
    *("dreamforge.runtime.embedded", "dreamforge.runtime.testing"),
)
OF_THE_DATABASE = ("sqlalchemy", "psycopg")
OF_HTTP = ("fastapi", "starlette", "uvicorn")
LEFT_OUT = {
    "dreamforge.gateway.main": OF_NONE,
    "dreamforge.projector.main": (*OF_NONE, *OF_HTTP),
    "dreamforge.scheduler.main": (*OF_NONE, *OF_HTTP, *OF_THE_DATABASE, "minio"),
    "dreamforge.gpu_runner.main": (*OF_NONE, *OF_HTTP, *OF_THE_DATABASE),
}
# In children of one process, which has what they share.
FOUND = f"""
import json, os, sys
from importlib import import_module
import dreamforge.runtime.service.shell, dreamforge.runtime.log.event_store
for name, left_out in {LEFT_OUT!r}.items():
    if (child := os.fork()) == 0:
        import_module(name)
        found = [each for each in left_out if each in sys.modules]
        os.write(1, (json.dumps([name, found]) + "\\n").encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", FOUND], capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("service", LEFT_OUT)
def test_a_service_starts_without_what_few_of_them_use(service: str, found: dict[str, list[str]]) -> None:
    assert found[service] == []
