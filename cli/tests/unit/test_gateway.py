"""What the command adds to the client's session: how often it tries, and what it says where no gateway answers."""

import io

import httpx
import pytest
from rich.console import Console

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.failure import Exit, report
from dreamforge.cli.settings import CliSettings
from dreamforge.client.errors import GatewayUnavailable, LimitExceeded


async def test_without_a_configured_gateway_there_is_one_try_and_a_hint() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("refused")

    settings = CliSettings(_env_file=None)
    async with GatewayClient(settings, asked.append, httpx.MockTransport(answer)) as client:
        with pytest.raises(GatewayUnavailable) as raised:
            await client.job("J")
    assert len(asked) == 1
    console = Console(file=io.StringIO(), width=200)
    assert report(raised.value, console, as_json=False) is Exit.UNAVAILABLE
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in (f"no gateway answers at {client.base_url}", "refused", "start the stack with `dreamforge up`"):
        assert part in text


async def test_who_reached_a_limit_is_told_so_at_once() -> None:
    settings = CliSettings(_env_file=None, gateway_url="http://gateway")
    network = httpx.MockTransport(lambda _request: httpx.Response(429, headers={"Retry-After": "1"}, json={}))
    async with GatewayClient(settings, network=network) as client:
        with pytest.raises(LimitExceeded):
            await client.submit({"prompt": "a"})
