"""All services of today go on with the folder of the previous release, and render the job that waited there."""

from pathlib import Path

import pytest
from system_testkit.live_stack import live_stack
from system_testkit.previous_release import unpack

from dreamforge.projector.maintenance.verify import verify
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


async def test_the_services_go_on_where_those_of_the_previous_release_stopped(tmp_path: Path) -> None:
    before = {job["job_id"]: job for job in unpack(tmp_path / "servers")}
    async with live_stack(tmp_path) as stack:
        shown = {job_id: (await stack.client.get(f"/v1/jobs/{job_id}")).json() for job_id in before}
        for job_id, job in before.items():
            changed = {key for key in job if shown[job_id].get(key) != job[key]} - {"forecast"}
            assert not changed, (changed, job, shown[job_id])
            for artifact in job["artifacts"]:
                assert (await stack.client.get(artifact["url"])).status_code == 200
        (waiting,) = [job_id for job_id, job in before.items() if job["status"] == "queued"]
        assert (await stack.client.post("/v1/queue/release")).status_code < 300
        assert (await stack.client.post(f"/v1/jobs/{waiting}/release")).status_code < 300

        async def state() -> str:
            return str((await stack.client.get(f"/v1/jobs/{waiting}")).json()["status"])

        await eventually(state, 60, until=lambda found: found == "succeeded")
        assert (await verify(stack.settings)).equal
