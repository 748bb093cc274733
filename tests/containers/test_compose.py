"""`docker compose up` for real: from nothing to a picture, without privileges and on read-only file systems."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "scheduler", "projector", "runner")
USER = 10_001


class Compose:
    """A project of its own, with secrets of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        self._command = ["docker", "compose"] if plugin else ["docker-compose"]
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": f"forge-test-{port}",
            "FORGE_NATS_IMAGE": "dreamforge-nats",
            "FORGE_POSTGRES_IMAGE": "dreamforge-postgres",
            "FORGE_S3_IMAGE": "dreamforge-s3",
            "FORGE_PUBLISH": f"127.0.0.1:{port}",
            "FORGE_MODELS": str(ROOT / "models"),
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def forge(self, *arguments: str) -> str:
        """A command as the administrator."""
        return self.run("run", "--rm", "-T", "command", *arguments)

    def inspect(self, service: str) -> dict[str, object]:
        found = json.loads(subprocess.check_output(["docker", "inspect", self.run("ps", "-q", service)]))
        first: dict[str, object] = found[0]
        return first

    def status(self, path: str, key: str = "") -> int:
        request = Request(f"http://127.0.0.1:{self.port}{path}")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("compose")
    for path in (ROOT / "deploy" / "compose").glob("*.*"):
        if path.is_file() and path.name != ".env":
            shutil.copy(path, folder)
    started = Compose(folder, free_port())
    image = ["docker", "run", "--rm", "--user", "0", "--volume", f"{folder}:/out", "dreamforge-service"]
    subprocess.run([*image, "dreamforge", "secrets", "/out/secrets", "--owner", str(USER)], check=True)
    try:
        started.run("up", "-d")
        yield started
    finally:
        started.run("down", "--volumes", "--timeout", "5")


@pytest.fixture
async def ready(compose: Compose) -> Compose:
    await eventually(lambda: compose.status("/readyz"), 120, until=lambda status: status == 200)
    return compose


async def test_a_prompt_becomes_a_picture(ready: Compose) -> None:
    assert ready.status("/v1/jobs") == 401
    key = ready.forge("keys", "create", "test").splitlines()[-1]
    await eventually(lambda: ready.status("/v1/jobs", key), 10, until=lambda status: status == 200)
    ready.environment["FORGE_API_KEY"] = key
    done = json.loads(ready.forge("generate", "a red circle", "--steps", "4", "--output", "/tmp/out", "--json"))
    assert done["job"]["status"] == "succeeded"
    (artifact,) = done["job"]["artifacts"]
    assert ready.status(artifact["url"], key) == 200
    assert "no fault" in ready.forge("doctor", "--quiet")


@pytest.mark.parametrize("service", SERVICES)
async def test_services_have_no_privilege_and_write_nothing_into_their_image(ready: Compose, service: str) -> None:
    found = ready.inspect(service)
    host, config = found["HostConfig"], found["Config"]
    assert isinstance(host, dict)
    assert isinstance(config, dict)
    assert config["User"] == f"{USER}:{USER}"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not [each for each in config["Env"] if each.startswith(("FORGE_DATABASE_URL=", "FORGE_S3_SECRET_KEY="))]


@pytest.mark.parametrize("service", SERVICES)
async def test_each_image_says_whether_it_is_healthy(ready: Compose, service: str) -> None:
    def health() -> str:
        state = ready.inspect(service)["State"]
        assert isinstance(state, dict)
        return str(state["Health"]["Status"])

    await eventually(health, 60, until=lambda status: status == "healthy")


@pytest.mark.parametrize("image", ["dreamforge-service", "dreamforge-runner"])
def test_an_image_has_its_bill_of_materials(image: str) -> None:
    text = subprocess.check_output(["docker", "run", "--rm", image, "cat", "/usr/share/dreamforge/sbom.cdx.json"])
    materials = json.loads(text)
    assert materials["bomFormat"] == "CycloneDX"
    assert {"pydantic", "nats-py"} <= {each["name"] for each in materials["components"]}


async def test_data_survives_new_containers(ready: Compose) -> None:
    before = json.loads(ready.forge("jobs", "list", "--json"))["jobs"]
    ready.run("down", "--timeout", "30")
    ready.run("up", "-d")
    await eventually(lambda: ready.status("/readyz"), 120, until=lambda status: status == 200)
    assert json.loads(ready.forge("jobs", "list", "--json"))["jobs"] == before
    assert before
