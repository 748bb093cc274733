"""Tables of another log: the gateway says so instead of answering 404 for what was accepted, until it is settled."""

import shutil

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem, ready, running, watch

from dreamforge.contracts.errors import LogReplaced
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.testing import eventually

OF_LOG = "INSERT INTO checkpoints (stream, sequence, at, log_id) VALUES ('JOBS', %s, now(), %s)"
NAME_LOG = "UPDATE checkpoints SET sequence = 0, log_id = %s"


async def refused(client: httpx.AsyncClient) -> str:
    """The reason in /readyz, as soon as it is known."""

    async def reason() -> str:
        checks: dict[str, str] = (await client.get("/readyz")).json()["checks"]
        return checks["log"]

    return await eventually(reason, 20.0, until=lambda found: "another log" in found)


async def test_it_answers_503_with_the_reason_until_it_is_settled(
    system: SimulatedSystem, settings: GatewaySettings
) -> None:
    await system.sql(OF_LOG, 0, "a log that was lost")
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert "made from log a log that was lost" in await refused(client)
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("GET", f"/v1/jobs/{ids.new_id()}"),
            ("GET", f"/v1/jobs/{ids.new_id()}/events"),
            ("POST", f"/v1/jobs/{ids.new_id()}/cancel"),
        ):
            response = await client.request(method, path, json=BODY if method == "POST" else None)
            assert (response.status_code, response.json()["code"]) == (503, "other_log"), path
            assert "dreamforge projection rebuild" in response.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200

        await system.sql(NAME_LOG, (await stream_place(system.bus, "JOBS")).log_id)

        async def accepted() -> bool:
            return (await client.post("/v1/jobs", json=BODY)).status_code == 202

        await eventually(accepted, 20.0)


async def test_a_job_that_tables_should_have_and_do_not_makes_it_look_again(
    system: SimulatedSystem, client: httpx.AsyncClient
) -> None:
    """As when NATS was restored from an older copy: found with the first read, not only by the next comparison."""
    accepted = (await client.post("/v1/jobs", json=BODY)).json()
    await system.insert(
        "events",
        sequence=accepted["sequence"],
        job_id="lost",
        attempt=0,
        type="dreamforge.job.requested.v1",
        event_id="of an end that was lost",
        source="",
        at=(await system.store.load(accepted["job_id"])).history[0].at,
        payload={},
    )
    await system.project_to(accepted["sequence"])
    response = await client.get(f"/v1/jobs/{accepted['job_id']}")
    assert (response.status_code, response.json()["code"]) == (503, "other_log")
    assert "the tables have event of an end that was lost" in response.json()["detail"]


async def test_an_event_id_of_another_log_starts_at_the_beginning(
    system: SimulatedSystem, client: httpx.AsyncClient
) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    await system.cancel(job_id)
    seen = await watch(client, job_id)
    facts, steps, log = seen[0].id.split("-")
    assert log == (await stream_place(system.bus, "JOBS")).log_id[-8:]
    assert [each.event for each in await watch(client, job_id, f"{facts}-{steps}")] == ["cancel-requested", "cancelled"]
    assert await watch(client, job_id, f"900-{steps}-{'0' * 8}") == seen
    assert await watch(client, job_id, f"900-{steps}") == seen, "past the end of this log"


async def test_a_sequence_of_another_log_is_refused(system: SimulatedSystem, client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/jobs", json=BODY)
    sequence = accepted.headers["Forge-Sequence"]
    await system.project_to(int(sequence))
    for log, status in ((accepted.headers["Forge-Log"], 200), ("0" * 8, 409)):
        headers = {"Forge-Min-Sequence": sequence, "Forge-Log": log}
        assert (await client.get("/v1/jobs", headers=headers)).status_code == status
        answer = await client.get(f"/v1/jobs/{ids.new_id()}", headers=headers)
        assert answer.json()["code"] == {200: "job_not_found", 409: "sequence_of_other_log"}[status]


async def serve_until_the_log_is_replaced(
    system: SimulatedSystem, settings: GatewaySettings, nats_server: NatsServer
) -> None:
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        await nats_server.kill()
        shutil.rmtree(nats_server.folder / "jetstream")
        await nats_server.restart()
        await ensure_streams(system.bus)

        async def ended() -> bool:
            try:
                return not (await client.get("/healthz")).is_success
            except httpx.TransportError:
                return True

        await eventually(ended, 30.0)


async def test_a_gateway_whose_log_is_replaced_ends_with_one_reason(
    system: SimulatedSystem, settings: GatewaySettings, nats_server: NatsServer
) -> None:
    """What it has in memory is void; as a process it is started again, and reads the new log."""
    with pytest.raises(LogReplaced, match="was replaced while it was read"):
        await serve_until_the_log_is_replaced(system, settings, nats_server)
