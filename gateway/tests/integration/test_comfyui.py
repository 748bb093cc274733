"""The websocket of ComfyUI's clients: who may open one, and that it tells of nobody else's jobs."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest
import websockets
from simulated_system import SimulatedSystem
from test_access import anybody, new_key, using  # noqa: F401 a fixture

from dreamforge.contracts.access import RevokeKey
from dreamforge.runtime import clock
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.testing import eventually

SEQUENCE = 1_000_000
WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m"}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 7,
            "steps": 4,
            "cfg": 2,
            "sampler_name": "default",
            "scheduler": "default",
            "denoise": 1,
            "model": ["1", 0],
            "positive": ["3", 0],
            "negative": ["3", 0],
            "latent_image": ["2", 0],
        },
    },
    "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
    "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
}


@pytest.fixture
def change_settings() -> dict[str, object]:
    return {"gateway_auth": "keys"}


def key_of(client: httpx.AsyncClient) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


async def requested(client: httpx.AsyncClient) -> str:
    async def sent() -> httpx.Response:
        return await client.post("/prompt", json={"prompt": WORKFLOW, "client_id": "c"})

    found = await eventually(sent, until=lambda answer: answer.status_code == 200)
    return str(found.json()["prompt_id"])


async def test_a_websocket_needs_what_a_request_needs_and_tells_of_own_jobs(
    anybody: httpx.AsyncClient,  # noqa: F811
    system: SimulatedSystem,
) -> None:
    a, b = [await using(anybody, await new_key(system, tenant)) for tenant in ("a", "b")]
    url = f"{str(anybody.base_url).replace('http', 'ws')}/ws?clientId=c"
    session = {"Cookie": f"forge_session={key_of(a)}"}
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer forge_nonsense"}, 401),
        (session | {"Origin": "http://evil.example"}, 403),
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert b'"error"' in (refused.value.response.body or b"")
    await system.project_to(SEQUENCE)  # there is no projector that would be waited for
    own = str(anybody.base_url).rstrip("/")
    async with (
        asyncio.timeout(30),
        websockets.connect(url, additional_headers=session | {"Origin": own}) as by_cookie,
        websockets.connect(url, additional_headers={"Authorization": f"Bearer {key_of(a)}"}) as by_key,
    ):
        other, mine = await requested(b), await requested(a)
        for job_id in (other, mine):
            await system.start(job_id)
        for socket in (by_cookie, by_key):
            texts = [json.loads(await socket.recv()) for _ in range(4)]
            assert [each["type"] for each in texts] == ["status", "status", "execution_start", "execution_cached"]
            assert texts[0]["data"]["sid"] == "c"
            assert {each["data"]["prompt_id"] for each in texts[2:]} == {mine}
        key_id = key_of(a).removeprefix("forge_").split("_")[0]
        await system.store.handle(KEY, key_id, RevokeKey(clock.now()))
        for socket in (by_cookie, by_key):
            with contextlib.suppress(websockets.ConnectionClosedError):
                async for _ in socket:
                    pass
            assert socket.close_code == 1008
