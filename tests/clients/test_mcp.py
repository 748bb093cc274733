"""MCP, as fastmcp's client speaks it: tools, progress, images, errors, repeats."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from PIL import Image

from dreamforge.runtime.embedded.ports import free_port

DREAMFORGE = str(Path(sys.executable).with_name("dreamforge"))


@pytest.fixture
def client(gateway_url: str) -> "Client[Any]":
    """Not connected: the connection belongs to the task that opens it, and a fixture has one of its own."""
    return Client(f"{gateway_url}/mcp")


def images_in(result: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(block.data))) for block in result.content if block.type == "image"]


SMALL = {"width_px": 64, "height_px": 64, "steps": 4}


async def test_images_come_with_progress(client: "Client[Any]") -> None:
    async with client:
        told: list[tuple[float, float | None]] = []

        async def progress(done: float, total: float | None, _: str | None) -> None:
            told.append((done, total))

        found = await client.call_tool(
            "generate_image", {"prompt": "a fox", "parameters": {**SMALL, "images": 2}}, progress_handler=progress
        )
        assert [image.size for image in images_in(found)] == [(64, 64)] * 2
        assert told[-1] == (8, 8)
        job = found.structured_content
        assert job is not None
        again = await client.call_tool("get_job", {"job_id": job["job_id"]})
        assert len(images_in(again)) == 2
        listed = await client.call_tool("find_jobs", {"status": "succeeded"})
        assert job["job_id"] in [each["job_id"] for each in listed.structured_content["jobs"]]  # type: ignore[index]
        why = await client.call_tool("explain_job", {"job_id": job["job_id"]})
        assert why.structured_content["attempts"]  # type: ignore[index]


async def test_a_repeat_renders_nothing_again(client: "Client[Any]") -> None:
    async with client:
        call = {"prompt": "once", "parameters": SMALL, "idempotency_key": "a-repeat"}
        first, second = [(await client.call_tool("generate_image", call)).structured_content for _ in range(2)]
        assert first == second


async def test_an_image_is_edited_by_its_hash_and_by_its_bytes(client: "Client[Any]") -> None:
    async with client:
        found = await client.call_tool("generate_image", {"prompt": "a fox", "parameters": SMALL})
        sha256 = found.structured_content["images"][0]["sha256"]  # type: ignore[index]
        data = next(block.data for block in found.content if block.type == "image")
        for image in (sha256, data):
            edited = await client.call_tool("edit_image", {"prompt": "a cat", "image": image, "parameters": SMALL})
            assert len(images_in(edited)) == 1


async def test_models_come_with_the_schema_of_their_parameters(client: "Client[Any]") -> None:
    async with client:
        (model, *_) = (await client.call_tool("list_models", {})).structured_content["models"]  # type: ignore[index]
        assert "steps" in model["parameters"]["properties"]
        assert {tool.name for tool in await client.list_tools()} >= {"generate_image", "edit_image", "cancel_job"}


async def test_a_job_is_cancelled(client: "Client[Any]") -> None:
    async with client:
        started = await client.call_tool("generate_image", {"prompt": "x", "parameters": {"images": 4}, "wait": False})
        job_id = started.structured_content["job_id"]  # type: ignore[index]
        await client.call_tool("cancel_job", {"job_id": job_id})
        job = (await client.call_tool("get_job", {"job_id": job_id, "images": False})).structured_content
        assert job["status"] in ("cancelled", "cancelling", "succeeded", "running")  # type: ignore[index]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("generate_image", {"prompt": "x", "parameters": {"steps": 10_000}}, "steps"),
        ("generate_image", {"prompt": "x", "model_id": "none"}, "known models"),
        ("generate_image", {"prompt": "x", "parameters": {"stepps": 3}}, "unknown field"),
        ("edit_image", {"prompt": "x", "image": "!"}, "base64"),
        ("get_job", {"job_id": "none"}, "there is no job"),
    ],
)
async def test_an_error_says_what_would_be_right(
    client: "Client[Any]", tool: str, arguments: dict[str, Any], says: str
) -> None:
    async with client:
        with pytest.raises(ToolError, match=says):
            await client.call_tool(tool, arguments)


async def test_an_agent_that_starts_a_command_gets_the_same_tools(gateway_url: str) -> None:
    command = StdioTransport(DREAMFORGE, ["mcp", "--gateway", gateway_url], env=dict(os.environ))
    async with Client(command) as client:
        assert "generate_image" in [tool.name for tool in await client.list_tools()]
        told: list[float] = []

        async def progress(done: float, _: float | None, __: str | None) -> None:
            told.append(done)

        found = await client.call_tool(
            "generate_image", {"prompt": "a fox", "parameters": SMALL}, progress_handler=progress
        )
        assert [image.size for image in images_in(found)] == [(64, 64)]
        assert told
        with pytest.raises(ToolError, match="no job"):
            await client.call_tool("get_job", {"job_id": "01a20638-499f-7288-a6c2-5e668ec21e03"})


def test_without_a_gateway_the_command_says_so() -> None:
    where = f"http://127.0.0.1:{free_port()}"
    message = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    ended = subprocess.run([DREAMFORGE, "mcp", "--gateway", where], input=message, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "cannot be reached" in ended.stderr
