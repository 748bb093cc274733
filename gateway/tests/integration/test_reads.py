"""Reads show one consistent moment of the tables, as new as the client asks for, and never what is not visible."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from simulated_system import BODY, DECISION, SimulatedSystem

from dreamforge.contracts.events import JobStarted, JobWarned, WarningCode
from dreamforge.gateway.documents import asyncapi
from dreamforge.runtime import clock, ids

pytestmark = pytest.mark.usefixtures("shared_gateway")


async def test_a_read_waits_for_the_write_it_must_see(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    written = await client.post("/v1/jobs", json=BODY)
    job_id, sequence = written.json()["job_id"], int(written.headers["forge-sequence"])
    by_header = asyncio.create_task(client.get(f"/v1/jobs/{job_id}", headers={"Forge-Min-Sequence": str(sequence)}))
    by_query = asyncio.create_task(client.get("/v1/jobs", params={"min_sequence": sequence}))
    without_a_word = asyncio.create_task(client.get(f"/v1/jobs/{job_id}"))
    done, _ = await asyncio.wait({by_header, by_query, without_a_word}, timeout=0.3)
    assert not done
    await system.insert_job(job_id, version=sequence)
    await system.project_to(sequence)
    assert (await by_header).json()["version"] == sequence
    assert [job["job_id"] for job in (await by_query).json()["jobs"]] == [job_id]
    assert (await without_a_word).status_code == 200
    again = await client.get(f"/v1/jobs/{job_id}", headers={"Forge-Min-Sequence": str(sequence)})
    assert again.status_code == 200


@pytest.mark.parametrize("change_settings", [{"gateway_consistency_seconds": 0.1}])
async def test_a_projection_that_stays_behind_is_said(client: httpx.AsyncClient) -> None:
    written = await client.post("/v1/jobs", json=BODY)
    response = await client.get("/v1/jobs", headers={"Forge-Min-Sequence": written.headers["forge-sequence"]})
    assert (response.status_code, response.json()["code"]) == (503, "projection_behind")
    assert response.json()["wanted"] == written.json()["sequence"]
    assert int(response.headers["retry-after"]) > 0


async def test_a_job_with_all_that_belongs_to_it(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id, now = ids.new_id(), clock.now()
    await system.insert_job(job_id, status="succeeded", attempt=2, finished_at=now, render_seconds=1.5)
    for attempt, status in ((1, "failed"), (2, "succeeded")):
        await system.insert(
            "attempts",
            job_id=job_id,
            attempt=attempt,
            runner_id="r1",
            instance_id="i1",
            status=status,
            estimated_vram_bytes=1,
            decision=DECISION.model_dump(mode="json"),
            assigned_at=now,
            reason="stalled" if status == "failed" else None,
        )
    await system.insert(
        "steps",
        job_id=job_id,
        sequence=3,
        attempt=2,
        image_index=0,
        images=1,
        step=4,
        steps=4,
        elapsed_seconds=1.0,
        eta_seconds=0.0,
        at=now,
    )
    for attempt, visible in ((1, False), (2, True)):
        await insert_artifact(system, f"{job_id}-{attempt}-0", job_id, attempt, visible=visible)
    response = await client.get(f"/v1/jobs/{job_id}")
    job = response.json()
    assert response.status_code == 200, job
    assert [(each["attempt"], each["status"], each["reason"]) for each in job["attempts"]] == [
        (1, "failed", "stalled"),
        (2, "succeeded", None),
    ]
    assert [each["artifact_id"] for each in job["artifacts"]] == [f"{job_id}-2-0"]
    assert job["artifacts"][0]["url"] == f"/v1/artifacts/{job_id}-2-0"
    assert job["artifacts"][0]["thumbnail_url"] == f"/v1/artifacts/{job_id}-2-0/thumbnail"
    assert (job["step"]["step"], job["render_seconds"]) == (4, 1.5)
    assert job["links"]["events"] == f"/v1/jobs/{job_id}/events"


async def test_a_job_shows_the_warnings_of_its_current_attempt_and_of_the_images_that_earlier_ones_stored(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    job_id, at = ids.new_id(), clock.now()
    await system.insert_job(job_id, status="running", attempt=2)
    await insert_artifact(system, f"{job_id}-1-0", job_id, 1, visible=True)
    warned = [
        JobWarned(at=at, attempt=1, code=WarningCode.PROMPT_CUT, message="of an attempt that is over"),
        JobWarned(at=at, attempt=1, code=WarningCode.IMAGE_BLACK, message="of an image that is kept", image_index=0),
        JobWarned(at=at, attempt=1, code=WarningCode.IMAGE_BLACK, message="of one that is not", image_index=1),
        JobWarned(at=at, attempt=2, code=WarningCode.UNKNOWN_WORDS, message="not known: blorb", words=("blorb",)),
        JobWarned(at=at, attempt=2, code=WarningCode.PRECISION_RAISED, message="painted again", image_index=1),
    ]
    for sequence, event in enumerate((*warned, JobStarted(at=at, attempt=2, runner_id="r1", instance_id="i")), 10):
        await system.insert(
            "events",
            sequence=sequence,
            job_id=job_id,
            attempt=event.attempt,
            type=event.TYPE,
            event_id=str(sequence),
            source="/t",
            at=at,
            payload=event.model_dump(mode="json"),
        )
    found = (await client.get(f"/v1/jobs/{job_id}")).json()["warnings"]
    assert [(each["code"], each["words"], each["image_index"]) for each in found] == [
        ("image_black", [], 0),
        ("unknown_words", ["blorb"], None),
        ("precision_raised", [], 1),
    ]


async def insert_artifact(
    system: SimulatedSystem, artifact_id: str, job_id: str, attempt: int, *, visible: bool
) -> None:
    await system.insert(
        "artifacts",
        artifact_id=artifact_id,
        job_id=job_id,
        attempt=attempt,
        index=0,
        visible=visible,
        sha256="a" * 64,
        object_key="images/k.png",
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=7,
        recipe={"prompt": "a red circle"},
        stored_at=clock.now(),
    )


async def test_pages_cover_every_job_once_while_new_ones_arrive(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    at = clock.now()
    expected = []
    for number in range(12):  # pairs of equal times: the cursor must tell them apart
        job_id = ids.new_id()
        await system.insert_job(
            job_id, requested_at=at + timedelta(seconds=number // 2), tenant="t", priority=number % 10
        )
        expected.append(job_id)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 5, "tenant": "t"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/jobs", params=params)).json()
        seen += [job["job_id"] for job in page["jobs"]]
        await system.insert_job(ids.new_id(), requested_at=at + timedelta(hours=1), tenant="t")
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(expected, key=lambda job_id: (expected.index(job_id) // 2, job_id), reverse=True)


async def test_filters(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    rows: list[dict[str, Any]] = [{}, {"status": "failed"}, {"tenant": "t2"}, {"model_id": "other"}]
    names = [ids.new_id() for _ in rows]
    for job_id, row in zip(names, rows, strict=True):
        await system.insert_job(job_id, **row)
    for number, params in enumerate(({"status": "failed"}, {"tenant": "t2"}, {"model_id": "other"}), 1):
        jobs = (await client.get("/v1/jobs", params=params)).json()["jobs"]
        assert [job["job_id"] for job in jobs] == [names[number]], params


async def test_weird_parameters_are_refused_with_their_name(client: httpx.AsyncClient) -> None:
    cases = (
        ("/v1/jobs?limit=0", 422, "limit"),
        ("/v1/jobs?limit=201", 422, "limit"),
        ("/v1/jobs?limit=" + "9" * 5000, 422, "limit"),
        ("/v1/jobs?limit=%00", 422, "limit"),
        ("/v1/jobs?status=none%00", 422, "status"),
        ("/v1/jobs?tenant=%ED%A0%80", 422, "tenant"),
        ("/v1/jobs?statsu=queued", 422, "statsu"),
        ("/v1/jobs?min_sequence=-1", 422, "min_sequence"),
        ("/v1/jobs?min_sequence=99999999999999999999", 422, "min_sequence"),
        ("/v1/jobs?cursor=x", 422, "cursor"),
        ("/v1/jobs?cursor=%00", 422, "cursor"),
        ("/v1/jobs?cursor=" + "_" * 32, 422, "cursor"),
        ("/v1/jobs?min_sequence=1000000", 409, None),
        ("/v1/jobs?cursor=" + "A" * 65, 422, "cursor"),
        ("/v1/jobs?status=queued&status=x", 422, "status"),
        ("/v1/presets?model_id=a.b", 422, "model_id"),
    )
    for url, status, parameter in cases:
        response = await client.get(url)
        problem = response.json()
        assert response.status_code == status, (url, problem)
        assert response.headers["content-type"] == "application/problem+json"
        if parameter is not None:
            assert parameter in {error["parameter"] for error in problem["errors"]}, url
    header = await client.get("/v1/jobs", headers={"Forge-Min-Sequence": "soon"})
    assert (header.status_code, header.json()["errors"][0]["parameter"]) == (422, "Forge-Min-Sequence")


async def test_what_does_not_exist_is_a_problem_document(client: httpx.AsyncClient) -> None:
    cases = [
        ("GET", f"/v1/jobs/{ids.new_id()}", 404, "job_not_found"),
        ("GET", "/v1/jobs/%00", 404, "job_not_found"),
        ("GET", f"/v1/jobs/{ids.new_id()}/why", 404, "job_not_found"),
        ("GET", "/v1/artifacts/nope", 404, "artifact_not_found"),
        ("GET", f"/v1/artifacts/{ids.new_id()}-1-0", 404, "artifact_not_found"),
        ("GET", "/nope", 404, "no_such_route"),
        ("GET", "/v1/jobs/", 404, "no_such_route"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
    ]
    for method, path, status, code in cases:
        response = await client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code), (method, path)
        assert response.json()["instance"]
    for path, allowed in (
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/images/edits", "POST"),
        ("/sdapi/v1/options", "GET, HEAD, POST"),
        ("/prompt", "GET, HEAD, POST"),
        ("/api/v2/jobs/x/cancel", "POST"),
        ("/mcp", "DELETE, GET, HEAD, POST"),
    ):
        refused = await client.put(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed), path


async def test_pages_load_nothing_from_elsewhere(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/", "/docs", "/asyncapi"):
        page = await client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        for word in ('src="http', "src=//", "<link", "@import", "url(http"):
            assert word not in page.text, (path, word)
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/v1/jobs"]["post"]["responses"]["429"]
    assert (await client.get("/asyncapi.json")).json()["asyncapi"].startswith("3.")
    monkeypatch.delattr(asyncapi, "files")  # made once: anybody may ask for them, as often as they like
    for path in ("/asyncapi", "/asyncapi.json"):
        assert (await client.get(path)).status_code == 200


async def test_metrics_have_the_route_not_the_path(client: httpx.AsyncClient) -> None:
    job_id = ids.new_id()
    await client.get(f"/v1/jobs/{job_id}")
    await client.get("/some/scanner/path")
    text = (await client.get("/metrics")).text
    assert 'route="/v1/jobs/{job_id}"' in text
    assert job_id not in text
    assert "scanner" not in text
