"""Batches over HTTP: all jobs or none, the same for the same key, watched, cancelled and fetched as one."""

import asyncio
import io
import json
import zipfile
from typing import Any

import httpx
from simulated_system import SimulatedSystem, events

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.stored_objects import object_key
from dreamforge.runtime import ids
from dreamforge.runtime.storage.objects import ObjectStore

BATCH: dict[str, Any] = {
    "request": {"seed": 7, "preset": "small"},
    "template": {"prompt": "a {red|blue} circle"},
    "grid": {"steps": [2, 3, 4]},
}


async def requests_of(system: SimulatedSystem, batch_id: str, jobs: int) -> list[JobRequested]:
    found = [(await system.store.load(ids.job_id_in(batch_id, index))).history[0].event for index in range(jobs)]
    assert all(isinstance(each, JobRequested) for each in found)
    return found  # type: ignore[return-value]  # as asserted


async def insert_batch(system: SimulatedSystem, batch_id: str, requested: list[JobRequested]) -> None:
    """The rows, as the projector writes them."""
    for index, each in enumerate(requested):
        assert each.batch is not None
        await system.insert_job(
            ids.job_id_in(batch_id, index),
            request=json.loads(each.request.model_dump_json()),
            batch_id=batch_id,
            batch_index=index,
            batch_values=each.batch.chosen,
        )
    first = requested[0].batch
    assert first is not None
    assert first.batch is not None
    await system.insert(
        "batches",
        batch_id=batch_id,
        job_id=ids.job_id_in(batch_id, 0),
        sequence=1,
        tenant="default",
        jobs=len(requested),
        template=json.loads(first.batch.model_dump_json()),
        requested_at=requested[0].at,
    )


async def test_the_log_says_what_each_job_was_asked_for_and_a_repeat_makes_nothing(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    answers = await asyncio.gather(
        *(client.post("/v1/batches", json=BATCH, headers={"Idempotency-Key": "six"}) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == ["", "true", "true"]
    made = answers[0].json()
    assert made["jobs"] == 6
    requested = await requests_of(system, made["batch_id"], 6)
    places = [each.batch for each in requested if each.batch is not None]
    asked = [(each.request.prompt, each.request.steps, each.request.seed) for each in requested]
    assert asked == [(f"a {colour} circle", steps, 7) for colour in ("red", "blue") for steps in (2, 3, 4)]
    assert [(place.index, place.jobs) for place in places] == [(index, 6) for index in range(6)]
    assert places[4].chosen == {"prompt": "a blue circle", "steps": 3}
    assert places[0].batch is not None
    assert places[0].batch.template == {"prompt": "a {red|blue} circle"}
    assert all(place.batch is None for place in places[1:])
    assert (await system.store.load(ids.job_id_in(made["batch_id"], 6))).version == 0
    sequences = [
        (await system.store.load(ids.job_id_in(made["batch_id"], index))).history[0].sequence for index in range(6)
    ]
    assert sequences == list(range(sequences[0], sequences[0] + 6))  # one atomic append
    other = await client.post("/v1/batches", json=BATCH | {"grid": {}}, headers={"Idempotency-Key": "six"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    single = await client.post("/v1/jobs", json={"prompt": "a {red|blue} fox"})
    [event] = (await system.store.load(single.json()["job_id"])).history
    assert isinstance(event.event, JobRequested)
    assert event.event.request.prompt == "a {red|blue} fox"  # braces are text where no template is asked for


async def test_one_wrong_value_refuses_the_whole_batch_and_says_where(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    before = (await system.bus.js.stream_info("JOBS")).state.messages
    literal = {"request": {"prompt": "a"}, "template": {}}  # no process is started
    for change, code, where in (
        (literal | {"grid": {"steps": [4, 900]}}, "invalid_request", "/grid/steps"),
        (literal | {"grid": {"sampler": ["nope"]}}, "invalid_request", "/grid/sampler"),
        ({"grid": {"speed": [1]}}, "invalid_request", "/grid/speed"),
        ({"grid": {"seed": [1]}}, "invalid_request", "/grid/seed"),
        (literal | {"request": {"prompt": "a", "model_id": "none"}}, "invalid_request", "/request/model_id"),
        (literal | {"request": {"prompt": "a", "seed": "x"}}, "invalid_request", "/request/seed"),
        ({"template": {"prompt": "{a"}}, "template_refused", "/template/prompt"),
        (literal | {"request": {}, "grid": {"prompt": ["a <lora:none:1>"]}}, "invalid_request", "/grid/prompt"),
        ({"template": {}, "grid": {}}, "invalid_request", ""),
        ({"template_seed": 3}, "invalid_request", "/template_seed"),
    ):
        answer = await client.post("/v1/batches", json=BATCH | change)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, code), (change, problem)
        assert where in [each.get("pointer") for each in problem["errors"]], (change, problem)
    large = await client.post("/v1/batches", json=literal | {"grid": {"steps": [2] * 101}})
    assert large.json()["code"] == "batch_too_large"
    assert (await system.bus.js.stream_info("JOBS")).state.messages == before


async def test_a_batch_is_watched_cancelled_and_fetched_as_one(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    made = (await client.post("/v1/batches", json=BATCH)).json()
    batch_id, links = made["batch_id"], made["links"]
    await insert_batch(system, batch_id, await requests_of(system, batch_id, 6))
    jobs = [ids.job_id_in(batch_id, index) for index in range(6)]
    await system.start(jobs[0])
    await system.finish(jobs[0])
    await system.start(jobs[1])
    cancelled = await client.post(links["cancel"])
    assert (cancelled.status_code, cancelled.json()["jobs"]) == (202, 6)
    assert (await client.post(links["cancel"])).status_code == 202  # again, which changes nothing
    running = (await system.store.load(jobs[1])).state
    assert (running.status, running.cancel_requested) == ("running", True)
    assert {(await system.store.load(job)).state.status for job in jobs[2:]} == {"cancelled"}

    seen: list[tuple[str, str, str]] = []
    async with client.stream("GET", links["events"]) as stream:
        async for each in events(stream):
            seen.append((each.id, each.event, each.data["job_id"]))
            if each.data["job_id"] == jobs[0] and each.event == "succeeded":
                await system.cancel(jobs[1])  # the last one ends while the stream is read
    assert {job for _, name, job in seen if name == "requested"} == set(jobs)
    assert seen[-1][1:] == ("cancelled", jobs[1])
    assert [int(event_id.split("-")[0]) for event_id, *_ in seen] == sorted(int(each[0].split("-")[0]) for each in seen)
    async with client.stream("GET", links["events"], headers={"Last-Event-ID": seen[7][0]}) as stream:
        assert [each.id async for each in events(stream)] == [each[0] for each in seen[8:]]
    assert (await client.get(links["events"], headers={"Last-Event-ID": seen[-1][0]})).status_code == 204

    await system.sql("UPDATE jobs SET status = 'cancelled' WHERE job_id <> %s", jobs[0])
    await system.sql("UPDATE jobs SET status = 'succeeded' WHERE job_id = %s", jobs[0])
    image = bytes(range(256)) * 4096  # more than one part
    await ObjectStore(system.settings).put(object_key("a" * 64), image, "image/png")
    await system.insert_artifact(jobs[0], size_bytes=len(image))
    found = (await client.get(links["self"])).json()
    assert (found["status"], found["counts"]) == ("cancelled", {"succeeded": 1, "cancelled": 5})
    assert [each["values"]["steps"] for each in found["members"]] == [2, 3, 4, 2, 3, 4]
    assert [len(each["images"]) for each in found["members"]] == [1, 0, 0, 0, 0, 0]
    listed = (await client.get("/v1/batches")).json()["batches"]
    assert [(each["batch_id"], each["status"]) for each in listed] == [(batch_id, "cancelled")]
    assert (await client.get(links["self"].replace(batch_id, ids.new_id()))).json()["code"] == "batch_not_found"
    with zipfile.ZipFile(io.BytesIO((await client.get(links["images"])).content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["batch.json", "0-0-seed-7.png"]
        assert archive.read("0-0-seed-7.png") == image
        assert json.loads(archive.read("batch.json"))["template"]["template"] == BATCH["template"]
