"""MCP, as fastmcp's client speaks it: tools, progress, images, errors, repeats."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from PIL import Image

from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing.eventually import eventually

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
        long = {"prompt": "x", "parameters": {"images": 4, "steps": 100}, "wait": False}
        job_id = (await client.call_tool("generate_image", long)).structured_content["job_id"]  # type: ignore[index]
        await client.call_tool("cancel_job", {"job_id": job_id})

        async def ended() -> str:
            job = (await client.call_tool("get_job", {"job_id": job_id, "images": False})).structured_content
            assert job is not None
            return str(job["status"]) if job.get("finished_at") else ""

        assert await eventually(ended, 30) == "cancelled"


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


def test_without_a_gateway_the_command_says_so_while_its_input_is_open() -> None:
    with started_command(f"http://127.0.0.1:{free_port()}") as command:
        said(command, "ping")
        assert command.wait(30) == 3
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.read() == ""
        assert "cannot be reached" in command.stderr.read()


def test_the_command_ends_with_its_input(gateway_url: str) -> None:
    with started_command(gateway_url) as command:
        said(
            command,
            "initialize",
            protocolVersion="2025-06-18",
            capabilities={},
            clientInfo={"name": "t", "version": "1"},
        )
        assert command.stdin is not None
        assert command.stdout is not None
        assert json.loads(command.stdout.readline())["result"]["serverInfo"]
        command.stdin.close()
        assert command.wait(30) == 0


@contextmanager
def started_command(gateway_url: str) -> "Iterator[subprocess.Popen[str]]":
    """The command with pipes; killed at the end if it still runs."""
    pipe = subprocess.PIPE
    command = [DREAMFORGE, "mcp", "--gateway", gateway_url]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(command: "subprocess.Popen[str]", method: str, **params: Any) -> None:
    """Send one request of MCP."""
    assert command.stdin is not None
    command.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
    command.stdin.flush()
