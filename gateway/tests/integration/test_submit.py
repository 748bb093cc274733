"""A POST that got its 202 is in the log, once, for ever, whatever is repeated."""

from typing import Any

import httpx
import pytest
from simulated_system import BODY, MODEL, SimulatedSystem

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.models.descriptor import Preset
from dreamforge.contracts.request.limits import Limits

pytestmark = pytest.mark.usefixtures("shared_gateway")

PROBLEM = "application/problem+json"
JSON = {"Content-Type": "application/json"}


async def request_of(system: SimulatedSystem, job_id: str) -> JobRequested:
    history = (await system.store.load(job_id)).history
    event = history[0].event
    assert isinstance(event, JobRequested)
    return event


async def test_accepted_means_in_the_log(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    trace = "a" * 32
    headers = {"X-Request-Id": "req-1", "traceparent": f"00-{trace}-{'b' * 16}-01", "Forge-Tenant": "t1"}
    response = await client.post("/v1/jobs", json=BODY | {"preset": "wide", "priority": 9}, headers=headers)
    assert response.status_code == 202
    job_id = response.json()["job_id"]
    loaded = await system.store.load(job_id)
    assert response.headers["location"] == f"/v1/jobs/{job_id}"
    assert response.headers["forge-sequence"] == str(loaded.version) == str(response.json()["sequence"])
    assert response.headers["x-request-id"] == "req-1"
    assert "idempotent-replayed" not in response.headers
    event = await request_of(system, job_id)
    assert (event.tenant, event.priority, event.request.width_px, event.request.seed) == ("t1", 9, 128, 7)
    assert trace in response.headers["traceparent"]
    assert loaded.history[0].traceparent == response.headers["traceparent"]


async def test_a_repeat_with_the_same_key_is_the_same_job(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    headers = {"Idempotency-Key": "repeat"}
    body = {"prompt": "no seed given"}
    first = await client.post("/v1/jobs", json=body, headers=headers)
    again = await client.post("/v1/jobs", content=b'{ "prompt":"no seed given", "seed": null }', headers=headers | JSON)
    other_tenant = await client.post("/v1/jobs", json=body, headers=headers | {"Forge-Tenant": "other"})
    assert [r.status_code for r in (first, again, other_tenant)] == [202, 202, 202]
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert other_tenant.json()["job_id"] != first.json()["job_id"]
    assert len((await system.store.load(first.json()["job_id"])).history) == 1


async def test_the_same_key_for_another_request_is_a_conflict(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "conflict"}
    first = await client.post("/v1/jobs", json=BODY, headers=headers)
    other = await client.post("/v1/jobs", json=BODY | {"prompt": "a blue square"}, headers=headers)
    assert other.status_code == 409
    assert other.headers["content-type"] == PROBLEM
    assert other.json()["code"] == "idempotency_conflict"
    assert other.json()["job_id"] == first.json()["job_id"]


async def test_a_repeat_survives_new_presets_and_lower_bounds(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    headers = {"Idempotency-Key": "survives"}
    first = await client.post("/v1/jobs", json={"prompt": "a", "width_px": 128}, headers=headers)
    assert first.status_code == 202

    async def renewed(**changes: Any) -> httpx.Response:
        await system.register(MODEL.model_copy(update=changes))
        # The new descriptor has arrived when the catalogue shows it.
        from dreamforge.runtime.testing import eventually

        async def seen() -> bool:
            shown = (await client.get("/v1/models")).json()["models"][0]["descriptor"]
            return bool(shown["side_px_max"] == changes.get("side_px_max", 128)) and (
                shown["presets"][0]["steps"] == changes.get("presets", MODEL.presets)[0].steps
            )

        await eventually(seen)
        return await client.post("/v1/jobs", json={"prompt": "a", "width_px": 128}, headers=headers)

    # The default preset now says something else, so the same body resolves to another request.
    other = Preset(name="small", width_px=64, height_px=64, steps=9, guidance_scale=1.0)
    changed = await renewed(presets=(other,))
    assert (changed.status_code, changed.json()["job_id"]) == (202, first.json()["job_id"])
    # The model no longer takes such a width: what was accepted stays accepted, anything new is refused.
    refused = await renewed(side_px_max=64)
    assert (refused.status_code, refused.json()["job_id"]) == (202, first.json()["job_id"])
    assert refused.headers["idempotent-replayed"] == "true"
    new = await client.post("/v1/jobs", json={"prompt": "a", "width_px": 128}, headers={"Idempotency-Key": "k2"})
    assert new.status_code == 422
    mixed = await client.post("/v1/jobs", json={"prompt": "b", "width_px": 128}, headers=headers)
    assert mixed.status_code == 422


BAD_BODIES: list[tuple[bytes, int, str, str | None]] = [
    (b"not json", 400, "not_json", None),
    (b"", 400, "not_json", None),
    (b'{"prompt": "\\ud800"}', 400, "not_json", None),
    (b"\xff\xfe", 400, "not_json", None),
    (b"[" * 60_000, 400, "not_json", None),
    (b"[]", 422, "invalid_request", None),
    (b"{}", 422, "invalid_request", "/prompt"),
    (b'{"prompt": ""}', 422, "out_of_bounds", "/prompt"),
    (b'{"prompt": "a\\u0000b"}', 422, "invalid_request", "/prompt"),
    (b'{"prompt": "a", "color": "red"}', 422, "invalid_request", "/color"),
    (b'{"prompt": "a", "steps": "4"}', 422, "invalid_request", "/steps"),
    (b'{"prompt": "a", "steps": true}', 422, "invalid_request", "/steps"),
    (b'{"prompt": "a", "steps": 1e999}', 422, "invalid_request", "/steps"),
    (b'{"prompt": "a", "guidance_scale": NaN}', 422, "invalid_request", "/guidance_scale"),
    (b'{"prompt": "a", "width_px": 1' + b"0" * 400 + b"}", 422, "invalid_request", "/width_px"),
    (b'{"prompt": "a", "seed": -1}', 422, "invalid_request", "/seed"),
    (b'{"prompt": "a", "deadlines": {"run_within_seconds": 0}}', 422, "invalid_request", None),
    (b'{"prompt": "' + b"a" * 2001 + b'"}', 422, "invalid_request", "/prompt"),
    (b'{"prompt": "a", "model_id": "nope"}', 422, "unknown_model", "/model_id"),
    (b'{"prompt": "a", "preset": "nope"}', 422, "unknown_preset", "/preset"),
    (b'{"prompt": "a", "width_px": 136}', 422, "out_of_bounds", "/width_px"),
    (b'{"prompt": "a", "width_px": 63}', 422, "size_not_supported", "/width_px"),
]


async def test_bad_input_is_refused_with_what_and_where(client: httpx.AsyncClient) -> None:
    for content, status, code, pointer in BAD_BODIES:
        response = await client.post("/v1/jobs", content=content, headers=JSON)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code), (content[:40], problem)
        assert response.headers["content-type"] == PROBLEM
        assert problem["request_id"] == response.headers["x-request-id"]
        assert pointer is None or problem["errors"][0]["pointer"] == pointer, problem


async def test_every_wrong_field_is_named_at_once(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json={"prompt": 1, "steps": 0, "x/y": 1})
    assert {error["pointer"] for error in response.json()["errors"]} == {"/prompt", "/steps", "/x~1y"}


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_refused_before_it_is_kept(client: httpx.AsyncClient, chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(40):
            yield b" " * 4096

    content = parts() if chunked else b" " * (160 * 1024)
    response = await client.post("/v1/jobs", content=content, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_malformed_headers_are_refused(client: httpx.AsyncClient) -> None:
    for name, value in (
        ("Idempotency-Key", b""),
        ("Idempotency-Key", b"k" * 256),
        ("Idempotency-Key", "ä".encode()),
        ("Forge-Tenant", b"a b"),
        ("Forge-Tenant", b""),
    ):
        response = await client.post("/v1/jobs", json=BODY, headers={name.encode(): value})
        assert (response.status_code, response.json()["code"]) == (400, "malformed"), (name, value)


async def test_cancel_is_idempotent(client: httpx.AsyncClient, system: SimulatedSystem, submit: Any) -> None:
    job_id = await submit()
    first = await client.post(f"/v1/jobs/{job_id}/cancel")
    again = await client.post(f"/v1/jobs/{job_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "cancelled")
    assert again.json() == first.json()
    assert int(first.headers["forge-sequence"]) == (await system.store.load(job_id)).version


async def test_cancel_of_nothing_is_not_found(client: httpx.AsyncClient) -> None:
    for job_id in ("0198a0c4-5f00-7abc-8def-0123456789ab", "nope", "*", "%00", "a.b.>"):
        response = await client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["code"]) == (404, "job_not_found"), job_id


@pytest.mark.parametrize("change_settings", [{"limit": {"open_jobs": 3}}])
async def test_a_full_queue_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "unavailable"}
    statuses = [(await client.post("/v1/jobs", json=BODY, headers=key)).status_code]
    statuses += [(await client.post("/v1/jobs", json=BODY)).status_code for _ in range(2)]
    refused = await client.post("/v1/jobs", json=BODY)
    assert statuses == [202, 202, 202]
    assert (refused.status_code, refused.json()["code"], refused.json()["maximum"]) == (429, "queue_full", 3)
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.post("/v1/jobs", json=BODY, headers=key)).headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("change_settings", [{"quota": {"open_jobs": 1}}])
async def test_a_tenant_with_a_full_queue_is_refused_and_others_are_not(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "greedy"})).status_code == 202
    refused = await client.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "greedy"})
    assert (refused.status_code, refused.json()["code"], refused.json()["quota"], refused.json()["tenant"]) == (
        429,
        "quota_exceeded",
        "open_jobs",
        "greedy",
    )
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "modest"})).status_code == 202


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", JSON),
        (b"not JSON", JSON),
        (b"[]", JSON),
        (b'{"prompt": 3, "stps": 1}', JSON),
        (b'{"prompt": "a", "model_id": "no-such-model"}', JSON),
        (b'{"prompt": "a"}', {"Content-Type": "text/plain"}),
        (b'{"prompt": "a"}', JSON | {"Forge-Tenant": "a b"}),
        (b'{"prompt": "a"}', JSON | {"Idempotency-Key": "k" * 256}),
        (b"x" * (Limits().body_bytes + 1), JSON),
        (b'{"prompt": "a", "seed": 7}', JSON | {"Idempotency-Key": "answered twice alike"}),
    ],
    ids=("empty", "text", "array", "fields", "model", "media", "tenant", "key", "large", "accepted"),
)
async def test_with_and_without_the_framework_the_answers_are_alike(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str]
) -> None:
    if content.endswith(b"7}"):
        await client.post("/v1/jobs", content=content, headers=headers)  # both below are repeats
    headers |= {"X-Request-Id": "r", "traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
    direct, framework = [
        await client.post("/v1/jobs", content=content, headers=headers, params=query)
        for query in (None, {"dry_run": "false"})
    ]
    assert (direct.status_code, direct.content) == (framework.status_code, framework.content)
    differ = ("date", "traceparent")
    kept = [[pair for pair in each.headers.multi_items() if pair[0] not in differ] for each in (direct, framework)]
    assert kept[0] == kept[1]


async def test_a_submission_is_measured_under_its_route(client: httpx.AsyncClient) -> None:
    await client.post("/v1/jobs", json=BODY)
    assert (
        'forge_http_seconds_count{method="POST",route="/v1/jobs",status="202"}' in (await client.get("/metrics")).text
    )
