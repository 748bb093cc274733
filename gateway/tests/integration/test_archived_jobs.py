"""A client cannot tell whether the events of a job are in the log or in the archive."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from simulated_system import SimulatedSystem, watch

from dreamforge.contracts.events import ErasureRequested
from dreamforge.contracts.jobs.archival import ArchiveJob
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.audit_reader import AuditCursor, AuditReader
from dreamforge.runtime.storage.archive_format import members, packed
from dreamforge.runtime.storage.job_archive import CONTENT_TYPE, JobArchive
from dreamforge.runtime.storage.objects import ARCHIVE, ObjectStore

pytestmark = pytest.mark.usefixtures("shared_gateway")


async def archive(system: SimulatedSystem, settings: GatewaySettings, job_id: str) -> None:
    """What the projector does with a job that ended long ago."""
    stored = await direct_get.last_of_each(system.bus, "JOBS", job_filter(job_id))
    key, data = f"{ARCHIVE}{ids.new_id()}.jsonl.gz", packed(stored)
    await ObjectStore(settings).put(key, data, CONTENT_TYPE)
    (member,) = members(data)
    await system.store.execute(job_id, ArchiveJob(clock.now(), member.place(key)))
    for message in stored:
        await system.bus.request("$JS.API.STREAM.MSG.DELETE.JOBS", {"seq": message.sequence})


async def test_an_archived_job_is_streamed_from_any_event_on_and_its_key_stays_taken(
    client: httpx.AsyncClient, system: SimulatedSystem, settings: GatewaySettings
) -> None:
    body, key = {"prompt": "a red circle", "seed": 7}, {"Idempotency-Key": ids.new_id()}
    accepted = await client.post("/v1/jobs", json=body, headers=key)
    job_id = accepted.json()["job_id"]
    await system.start(job_id)
    await system.finish(job_id)
    path = f"/v1/jobs/{job_id}/events"
    before = await watch(client, job_id)
    await archive(system, settings, job_id)

    assert await watch(client, job_id) == before
    rest = await client.get(path, headers={"Last-Event-ID": before[1].id})
    assert [line[4:] for line in rest.text.splitlines() if line.startswith("id: ")] == [each.id for each in before[2:]]
    assert (await client.get(path, headers={"Last-Event-ID": before[-1].id})).status_code == 204
    again = await client.post("/v1/jobs", json=body, headers=key)
    assert (again.status_code, again.json()["job_id"]) == (accepted.status_code, job_id)
    other = await client.post("/v1/jobs", json=body | {"prompt": "a blue square"}, headers=key)
    assert other.status_code == 409
    assert [each.event for each in before] == ["requested", "assigned", "started", "artifact", "succeeded"]


async def test_an_archived_job_is_deleted_and_undone_like_any_other(
    client: httpx.AsyncClient, system: SimulatedSystem, settings: GatewaySettings, submit: Any
) -> None:
    job_id = await submit()
    await system.start(job_id)
    await system.finish(job_id)
    before = await watch(client, job_id)
    await archive(system, settings, job_id)
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 202
    assert (await client.get(f"/v1/jobs/{job_id}/events")).status_code == 404
    archive_reader = JobArchive(ObjectStore(settings))
    since = AuditCursor(clock.now() - timedelta(minutes=5))
    page = await AuditReader(system.bus, archive_reader).page(since, limit=1_000, tenant="default")
    deleted = [each.entity_id for each in page.entries if each.action == ErasureRequested.TYPE]
    assert job_id in deleted
    undone = await client.post(f"/v1/jobs/{job_id}/undelete")
    assert undone.status_code == 202, undone.text
    assert await watch(client, job_id) == before
