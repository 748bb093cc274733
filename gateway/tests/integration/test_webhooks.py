"""Webhooks: signed as the public library verifies, in order, and nothing lost while a receiver is away."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem, models, ready, running
from standardwebhooks import Webhook, WebhookVerificationError
from system_testkit.webhook_receiver import WebhookReceiver

from dreamforge.contracts.access import CreateKey, Scope, written_key
from dreamforge.contracts.events import ErasureRequested
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.testing import eventually

ALL = ["job.requested", "job.started", "job.artifact-stored", "job.succeeded", "job.cancelled"]


ON: dict[str, object] = {
    "gateway_webhook_key": "k" * 32,
    "gateway_webhook_networks": "127.0.0.1",
    "gateway_webhook_http": True,
    "gateway_webhook_first_retry_seconds": 0.05,
    "gateway_webhook_longest_retry_seconds": 0.1,
    "gateway_webhooks": 4,
}


@pytest.fixture
def change_settings() -> dict[str, object]:
    return ON | {"gateway_auth": "keys"}


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    found = WebhookReceiver()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def url(system: SimulatedSystem) -> AsyncIterator[str]:
    async with running(system.settings) as (url, _), httpx.AsyncClient(base_url=url) as anybody:
        await ready(anybody)
        yield url


async def with_key(system: SimulatedSystem, url: str, tenant: str, *scopes: Scope) -> httpx.AsyncClient:
    """A client with a key, once the gateway knows it."""
    key_id, secret = ids.new_key_id(), ids.new_key_secret()
    await system.store.handle(KEY, key_id, CreateKey(clock.now(), secret, "test", tenant, frozenset(scopes)))
    headers = {"Authorization": f"Bearer {written_key(key_id, secret)}"}
    client = httpx.AsyncClient(base_url=url, headers=headers, timeout=20)
    await eventually(lambda: client.get("/v1/me"), until=lambda answer: answer.status_code == 200)
    await eventually(lambda: models(client))
    return client


@pytest.fixture
async def user(system: SimulatedSystem, url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with aclosing(await with_key(system, url, "a", Scope.READ, Scope.SUBMIT)) as client:
        yield client


async def create(client: httpx.AsyncClient, to: str, **changes: object) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={"url": to, "kinds": ALL} | changes)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def has_read(client: httpx.AsyncClient, until: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Wait until the gateway has read back what it has written of webhooks."""

    async def webhooks() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get("/v1/webhooks")).json()["webhooks"]
        return found

    await eventually(webhooks, until=until)


async def submit(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/jobs", json=BODY)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def arrives(receiver: WebhookReceiver, job_id: str, last: str) -> list[str]:
    def ended() -> bool:
        return last in receiver.types(job_id)

    await eventually(ended, 20.0)
    return receiver.types(job_id)


async def test_what_arrives_is_verified_by_the_public_library_also_while_a_secret_is_replaced(
    system: SimulatedSystem, user: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    earlier = await submit(user)
    webhook = await create(user, receiver.url, name="shop")
    await system.cancel(earlier)
    assert await arrives(receiver, earlier, "job.cancelled") == ["job.cancelled"]
    job_id = await submit(user)
    await system.start(job_id)
    await system.finish(job_id)
    assert await arrives(receiver, job_id, "job.succeeded") == ALL[:4]
    for headers, body in receiver.got[1:]:
        assert Webhook(webhook["secret"]).verify(body, headers)["data"]["job_id"] == job_id
        with pytest.raises(WebhookVerificationError):
            Webhook(webhook["secret"]).verify(body + b" ", headers)
    streamed = json.loads(receiver.got[-1][1])
    assert streamed["data"]["type"] == "dreamforge.job.succeeded.v1"

    rotated = (await user.post(f"/v1/webhooks/{webhook['webhook_id']}/rotate", json={})).json()
    await has_read(user, lambda found: len(found[0]["secrets"]) == 2)
    assert rotated["secret"] != webhook["secret"]
    second = await submit(user)
    await arrives(receiver, second, "job.requested")
    headers, body = receiver.got[-1]
    for secret in (webhook["secret"], rotated["secret"]):
        Webhook(secret).verify(body, headers)
    await user.post(f"/v1/webhooks/{webhook['webhook_id']}/rotate", json={"overlap_seconds": 0})
    await has_read(user, lambda found: len(found[0]["secrets"]) == 1)
    third = await submit(user)
    await arrives(receiver, third, "job.requested")
    with pytest.raises(WebhookVerificationError):
        Webhook(rotated["secret"]).verify(receiver.got[-1][1], receiver.got[-1][0])
    assert webhook["secret"] not in (await user.get(f"/v1/webhooks/{webhook['webhook_id']}")).text


async def test_nothing_is_lost_while_the_receiver_is_away_nor_when_the_gateway_restarts_meanwhile(
    system: SimulatedSystem, receiver: WebhookReceiver, settings: Any
) -> None:
    healthy = WebhookReceiver()
    await healthy.start()
    jobs: list[str] = []
    async with (
        running(settings) as (url, _),
        aclosing(await with_key(system, url, "a", Scope.SUBMIT, Scope.READ)) as user,
    ):
        webhook = await create(user, receiver.url)
        await create(user, healthy.url)
        await receiver.stop()
        for _ in range(3):
            jobs.append(await submit(user))
            await system.start(jobs[-1])
            await arrives(healthy, jobs[-1], "job.started")  # another subscription does not wait

        async def fails() -> bool:
            shown = (await user.get(f"/v1/webhooks/{webhook['webhook_id']}/deliveries")).json()["deliveries"]
            return {each["job_id"] for each in shown if each["status"] == "failed"} == set(jobs)

        await eventually(fails, 20.0)
        await system.finish(jobs[0])
    for job_id in jobs[1:]:  # nobody delivers now
        await system.finish(job_id)
    await receiver.start()
    async with running(settings):
        for job_id in jobs:
            assert list(dict.fromkeys(await arrives(receiver, job_id, "job.succeeded"))) == ALL[:4]
            await arrives(healthy, job_id, "job.succeeded")
    await healthy.stop()


async def test_a_tenant_sees_and_gets_only_what_is_its_own(
    system: SimulatedSystem, url: str, user: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    other = await with_key(system, url, "b", Scope.READ, Scope.SUBMIT)
    webhook = await create(user, receiver.url)
    foreign, own = await submit(other), await submit(user)
    await arrives(receiver, own, "job.requested")
    assert receiver.types(foreign) == []
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/rotate"), ("POST", f"{path}/replay")):
        assert (await other.request(method, where, json={} if method == "POST" else None)).status_code == 404
    assert (await other.get("/v1/webhooks")).json() == {"webhooks": []}
    assert (await other.post("/v1/webhooks", json={"url": receiver.url, "job_id": own})).status_code == 404

    of_job = await create(user, receiver.url, job_id=own, kinds=["job.cancelled"])
    await user.delete(path)
    await has_read(user, lambda found: [each["webhook_id"] for each in found] == [of_job["webhook_id"]])
    await system.cancel(own)
    await system.cancel(foreign)
    assert await arrives(receiver, own, "job.cancelled") == ["job.requested", "job.cancelled"]
    assert receiver.types(foreign) == []
    await other.aclose()


@pytest.mark.parametrize("change_settings", [ON | {"gateway_webhook_give_up_seconds": 0.0}])
async def test_what_is_parked_is_shown_with_its_reason_and_replayed_by_command(
    client: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    webhook = await create(client, receiver.url, kinds=["job.requested", "job.cancelled"])
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    receiver.status = 302  # a redirect is not followed
    job_id = await submit(client)

    async def parked() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get(f"{path}/deliveries?status=parked")).json()["deliveries"]
        return found

    (shown,) = await eventually(parked, until=lambda found: len(found) == 1)
    assert shown["reason"] == "the receiver answered 302"
    assert (await client.get(path)).json()["parked"] == 1
    receiver.status = 200
    assert (await client.post(f"{path}/replay", json={})).json() == {"replayed": 1}
    assert await arrives(receiver, job_id, "job.requested") == ["job.requested"]
    await eventually(parked, until=lambda found: found == [])
    again = await client.post(f"{path}/replay", json={"job_id": job_id, "sequence": shown["sequence"]})
    assert again.json() == {"replayed": 1}
    await eventually(lambda: len(receiver.types(job_id)) == 2)
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]
    wrong = await client.post(f"{path}/replay", json={"job_id": job_id, "sequence": shown["sequence"] + 99})
    assert wrong.status_code == 422


async def test_a_repeat_with_its_key_answers_the_same_webhook(
    user: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    body, key = {"url": receiver.url, "name": "shop"}, {"Idempotency-Key": "shop-1"}
    first, again = [await user.post("/v1/webhooks", json=body, headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() | {"failing_jobs": 0} == first.json()
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    path = f"/v1/webhooks/{first.json()['webhook_id']}"
    other = await user.post("/v1/webhooks", json=body | {"name": "other"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "webhook_key_used")
    assert "different request" in other.json()["detail"]
    for method, where, says in (("POST", f"{path}/rotate", "replaced"), ("DELETE", path, "deleted")):
        await user.request(method, where, json={} if method == "POST" else None)
        refused = await user.post("/v1/webhooks", json=body, headers=key)
        assert (refused.status_code, says in refused.json()["detail"]) == (409, True), refused.text


async def test_a_webhook_of_one_job_ends_when_the_end_of_its_job_has_arrived(
    system: SimulatedSystem, user: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    job_id = await submit(user)
    webhook = await create(user, receiver.url, job_id=job_id, kinds=["job.started"])  # not the end itself
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    receiver.status = 500
    await system.start(job_id)
    await eventually(lambda: receiver.tried > 0)
    await system.finish(job_id)
    assert (await user.get(path)).json()["ended_at"] is None
    receiver.status = 200
    await eventually(lambda: user.get(path), until=lambda shown: shown.json()["ended_at"] is not None)
    assert receiver.types(job_id) == ["job.started"]
    await has_read(user, lambda found: found == [])
    shown = (await user.get(f"{path}/deliveries")).json()["deliveries"]
    assert shown[0]["status"] == "succeeded"
    assert (await user.post(f"{path}/replay", json={})).status_code == 409
    late = await create(user, receiver.url, job_id=job_id)  # there is nothing that could come
    await eventually(
        lambda: user.get(f"/v1/webhooks/{late['webhook_id']}"),
        until=lambda shown: shown.json()["ended_at"] is not None,
    )


async def test_nothing_is_sent_of_a_deleted_job(
    system: SimulatedSystem, user: httpx.AsyncClient, receiver: WebhookReceiver
) -> None:
    receiver.status = 500
    webhook = await create(user, receiver.url)
    job_id = await submit(user)
    await eventually(lambda: receiver.tried > 0)
    await system.cancel(job_id)
    now = clock.now()
    await system.append(job_id, ErasureRequested(at=now, erase_at=now, requested_by="test"))
    receiver.status = 200

    async def dropped() -> bool:
        shown = (await user.get(f"/v1/webhooks/{webhook['webhook_id']}/deliveries")).json()["deliveries"]
        return bool(shown) and shown[0]["status"] == "dropped"

    await eventually(dropped)
    assert set(receiver.types(job_id)) <= {"job.requested"}


REFUSED: tuple[tuple[dict[str, object], Callable[[str], bool]], ...] = (
    ({"url": "http://10.0.0.1/"}, lambda detail: "private" in detail),
    ({"url": "https://169.254.169.254/latest"}, lambda detail: "link-local" in detail),
    ({"url": "https://[::ffff:10.0.0.1]/"}, lambda detail: "private" in detail),
    ({"url": "ftp://a.example/"}, lambda detail: "https://" in detail),
    ({"url": "https://user:pass@a.example/"}, lambda detail: "user name" in detail),
    ({"url": "https://a.example/", "kinds": ["job.exploded"]}, lambda detail: "job.succeeded" in detail),
    ({"url": "https://a.example/", "kinds": []}, lambda detail: "kinds" in detail),
)


async def test_what_cannot_be_right_is_refused_and_says_what_would_be(user: httpx.AsyncClient) -> None:
    for body, says in REFUSED:
        answer = await user.post("/v1/webhooks", json=body)
        assert answer.status_code == 422, (body, answer.text)
        assert says(json.dumps(answer.json())), (body, answer.text)
    for _ in range(4):
        await create(user, "https://a.example/")
    answer = await eventually(
        lambda: user.post("/v1/webhooks", json={"url": "https://a.example/"}),
        until=lambda answer: answer.status_code != 201,
    )
    assert (answer.status_code, answer.json()["code"]) == (429, "webhooks_full")


@pytest.mark.parametrize("change_settings", [{}])
async def test_without_a_key_of_the_installation_there_are_none(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/webhooks", json={"url": "https://a.example/"})
    assert (answer.status_code, answer.json()["code"]) == (409, "webhooks_off")
    assert "FORGE_GATEWAY_WEBHOOK_KEY" in answer.json()["detail"]
