"""Open WebUI itself, started as docs/clients.md shows it, makes images in each of its three modes.

    python3.11 -m venv open-webui && open-webui/bin/pip install open-webui==0.12.4
    FORGE_TEST_OPEN_WEBUI=open-webui/bin/open-webui pytest -m clients tests/clients/test_open_webui.py

It is skipped without: the installation has 7 GB. That this takes the calls that Open WebUI makes, the tests of each
interface show without it.
"""

import base64
import contextlib
import hashlib
import io
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from system_testkit.documents import snippets
from system_testkit.live_stack import LiveStack

from dreamforge.runtime.embedded import spawn
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually

OPEN_WEBUI = str(Path(os.environ.get("FORGE_TEST_OPEN_WEBUI", ".")).absolute())
pytestmark = [
    pytest.mark.skipif("FORGE_TEST_OPEN_WEBUI" not in os.environ, reason="FORGE_TEST_OPEN_WEBUI names none"),
    pytest.mark.timeout(420),
]
# It imports torch and more, and migrates an empty database.
READY_SECONDS = 300.0
ADMIN = {"name": "admin", "email": "admin@example.com", "password": "Password-1234"}


@dataclass(frozen=True, slots=True)
class OpenWebUi:
    """A running one: its API as its first user sees it, and the gateway that makes its images."""

    api: httpx.AsyncClient
    stack: LiveStack

    async def use(self, engine: str) -> None:
        """What its administrator chooses under Settings, Images."""
        config = (await self.api.get("/api/v1/images/config")).raise_for_status().json()
        chosen = {**config, "IMAGE_GENERATION_ENGINE": engine, "IMAGE_EDIT_ENGINE": "openai"}
        answer = await self.api.post("/api/v1/images/config/update", json=chosen)
        assert answer.is_success, answer.text

    async def images(self, path: str, **body: object) -> list[bytes]:
        """The images that it has made and stored."""
        answer = await self.api.post(f"/api/v1/images/{path}", json=body)
        assert answer.is_success, answer.text
        return [(await self.api.get(each["url"])).raise_for_status().content for each in answer.json()]

    async def job_of(self, prompt: str) -> dict[str, Any]:
        """The one job of a prompt."""
        jobs = (await self.stack.request("GET", "/v1/jobs")).json()["jobs"]
        (job_id,) = (each["job_id"] for each in jobs if each["request"]["prompt"] == prompt)
        return await self.stack.job(job_id)


def shown_environment(gateway_url: str, model: str) -> dict[str, str]:
    """The environment that the document exports, for this gateway and its model."""
    shown = snippets("Open WebUI", "sh")[0].replace("http://127.0.0.1:8080", gateway_url).replace("forge-shapes", model)
    printed = subprocess.run(["bash", "-ec", f"{shown}\nenv -0"], capture_output=True, text=True, check=True).stdout
    named = (line.partition("=") for line in printed.split("\0") if line)
    return {name: value for name, _, value in named if not name.startswith("FORGE_")}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_webui(
    stack: LiveStack, gateway_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OpenWebUi]:
    """A fresh one, which loads nothing from the internet."""
    folder, port = tmp_path_factory.mktemp("open-webui"), free_port()
    models = (await stack.request("GET", "/v1/models")).json()["models"]
    shown = shown_environment(gateway_url, models[0]["descriptor"]["model_id"])
    own = {"DATA_DIR": str(folder / "data"), "WEBUI_SECRET_KEY": "s" * 32, "OFFLINE_MODE": "true"}
    command = [OPEN_WEBUI, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = await spawn(command, environment=shown | own, folder=folder, output=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120.0) as api:

            async def listens() -> bool:
                assert process.returncode is None, (folder / "log").read_text()[-4000:]
                with contextlib.suppress(httpx.TransportError):
                    return (await api.get("/health")).is_success
                return False

            await eventually(listens, READY_SECONDS, interval_seconds=0.5)
            signed_up = (await api.post("/api/v1/auths/signup", json=ADMIN)).raise_for_status().json()
            api.headers["Authorization"] = f"Bearer {signed_up['token']}"
            yield OpenWebUi(api, stack)
    finally:
        await process.stop(grace_seconds=10.0)


@pytest.mark.parametrize("engine", ["openai", "automatic1111", "comfyui"])
async def test_an_image_is_made_by_a_job_in_each_mode(open_webui: OpenWebUi, engine: str) -> None:
    await open_webui.use(engine)
    listed = await open_webui.api.get("/api/v1/images/models")
    assert listed.is_success, listed.text
    assert listed.json()
    prompt = f"a lighthouse by {engine}"
    images = await open_webui.images("generations", prompt=prompt, size="64x64", n=2)
    assert [Image.open(io.BytesIO(image)).size for image in images] == [(64, 64)] * 2
    job = await open_webui.job_of(prompt)
    assert job["status"] == "succeeded"
    assert {hashlib.sha256(image).hexdigest() for image in images} == {each["sha256"] for each in job["artifacts"]}


async def test_an_image_is_edited(open_webui: OpenWebUi) -> None:
    await open_webui.use("openai")
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(out, "PNG")
    image = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    (edited,) = await open_webui.images("edit", prompt="another colour", image=image, size="64x64")
    job = await open_webui.job_of("another colour")
    assert [each["sha256"] for each in job["artifacts"]] == [hashlib.sha256(edited).hexdigest()]
