"""A gateway whose clock is wrong decides by the log's time, and says how far its clock is off."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem

from dreamforge.contracts.log.envelope import unseal
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get


@pytest.fixture(params=[-300.0, 300.0])
def skew_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """This process's clock is so far ahead of the broker's."""
    seconds: float = request.param
    right = clock.machine_now
    monkeypatch.setattr(clock, "machine_now", lambda: right() + timedelta(seconds=seconds))
    yield seconds
    clock.correct(0.0)


async def test_a_deadline_is_in_the_time_of_the_log(
    skew_seconds: float, system: SimulatedSystem, client: httpx.AsyncClient
) -> None:
    accepted = await client.post("/v1/jobs", json=BODY | {"deadlines": {"start_within_seconds": 60}})
    assert accepted.status_code == 202, accepted.text
    sequence = accepted.json()["sequence"]
    stored = await direct_get.one(system.bus, "JOBS", sequence)
    assert stored is not None
    event: Any = unseal(stored.subject, stored.headers, stored.data, sequence=sequence).event
    message = (await system.bus.request("$JS.API.STREAM.MSG.GET.JOBS", {"seq": sequence}))["message"]
    assert abs(event.at - datetime.fromisoformat(message["time"])) < timedelta(seconds=5)
    told = (await client.get("/readyz")).json()["clock_skew_seconds"]
    assert told == pytest.approx(skew_seconds, abs=5)
