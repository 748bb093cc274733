"""The work of one webhook is bounded, and begins again where it stopped."""

from datetime import UTC, datetime, timedelta

from dreamforge.contracts.deliveries import Backlog, Deliveries
from dreamforge.contracts.webhook_events import (
    DeliveryFailed,
    DeliveryParked,
    DeliveryReplayed,
    DeliverySucceeded,
    SealedSecret,
    WebhookCreated,
)
from dreamforge.contracts.webhooks import WebhookState, evolve_webhook
from dreamforge.gateway.webhooks.endpoint import Endpoint

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def endpoint(limit_jobs: int = 2) -> Endpoint:
    return Endpoint("w", WebhookState(), Deliveries(), Backlog(through=10), limit_jobs)


def succeed(found: Endpoint, job_id: str, sequence: int) -> bool:
    found.deliveries.apply(
        DeliverySucceeded(
            at=NOON,
            job_id=job_id,
            sequence=sequence,
            until=sequence,
            kind="k",
            attempts=1,
            status=200,
            elapsed_seconds=0,
        )
    )
    return found.end(job_id)


def fail(found: Endpoint, job_id: str, sequence: int, retry_at: datetime) -> None:
    found.deliveries.apply(
        DeliveryFailed(
            at=NOON,
            job_id=job_id,
            sequence=sequence,
            until=sequence,
            kind="k",
            attempts=1,
            reason="no",
            failing_since=NOON,
            retry_at=retry_at,
        )
    )
    found.end(job_id)


def test_a_full_backlog_stops_reading_and_goes_on_where_it_stopped() -> None:
    found = endpoint()
    for sequence, job_id in ((11, "a"), (12, "b"), (13, "c")):
        found.offer(job_id, sequence)
    assert (found.stopped, found.backlog.through) == (True, 12)
    assert found.begin(NOON, connections=1) == ["a"]
    assert found.begin(NOON, connections=1) == []  # the only connection is taken
    assert succeed(found, "a", 11)  # there is room again: JOBS is read on from 12
    assert (found.stopped, list(found.backlog.jobs)) == (False, ["b"])


def test_one_job_waits_for_its_retry_while_others_are_sent() -> None:
    found = endpoint()
    found.offer("a", 11)
    found.offer("b", 12)
    assert found.begin(NOON, 4) == ["a", "b"]
    fail(found, "a", 11, NOON + timedelta(seconds=10))
    succeed(found, "b", 12)
    found.offer("a", 13)  # behind the one that failed
    assert found.begin(NOON, 4) == []
    assert found.begin(NOON + timedelta(seconds=10), 4) == ["a"]
    succeed(found, "a", 11)
    assert found.begin(NOON + timedelta(seconds=10), 4) == ["a"]
    succeed(found, "a", 13)
    assert found.backlog.jobs == {}
    assert found.backlog.floor(found.deliveries) == 13


def test_what_waits_is_sent_at_once_when_the_receiver_is_back() -> None:
    found = endpoint()
    for job_id, sequence in (("a", 11), ("b", 12)):
        found.offer(job_id, sequence)
        found.begin(NOON, 4)
        fail(found, job_id, sequence, NOON + timedelta(hours=6))
    assert found.begin(NOON, 4) == []
    found.recovered()
    assert found.begin(NOON, 4) == ["a", "b"]


def created_for(job_id: str) -> WebhookState:
    created = WebhookCreated(
        at=NOON,
        tenant="a",
        url="https://a.example/",
        kinds=("job.started", "job.succeeded"),
        job_id=job_id,
        from_sequence=10,
        secret=SealedSecret(sealed="x"),
    )
    return evolve_webhook(WebhookState(), created)


def test_one_of_a_single_job_is_finished_when_the_end_of_the_job_has_arrived() -> None:
    found = endpoint()
    found.state = created_for("a")
    for sequence, is_terminal in ((11, False), (12, True)):
        found.offer("a", sequence)
        found.note_end("a", sequence, is_terminal=is_terminal)
    assert (found.job_end, found.is_finished) == (12, False)
    found.begin(NOON, 4)
    fail(found, "a", 11, NOON + timedelta(seconds=10))
    assert not found.is_finished
    found.begin(NOON + timedelta(seconds=10), 4)
    succeed(found, "a", 11)
    assert not found.is_finished
    found.begin(NOON, 4)
    succeed(found, "a", 12)
    assert found.is_finished


def test_one_of_a_single_job_waits_until_all_was_read_and_nothing_is_parked() -> None:
    found = endpoint()
    found.state, found.job_end = created_for("a"), 12
    assert not found.is_finished  # JOBS was read up to 10
    found.offer("a", 12)
    found.begin(NOON, 4)
    named = {"at": NOON, "job_id": "a", "sequence": 12, "until": 12, "kind": "k", "attempts": 9}
    found.deliveries.apply(DeliveryParked(**named, reason="no"))
    found.end("a")
    assert not found.is_finished
    found.deliveries.apply(DeliveryReplayed(at=NOON, job_id="a", sequence=12, kind="k"))
    assert not found.is_finished
    succeed(found, "a", 12)
    assert found.is_finished


def test_one_of_all_jobs_has_no_end() -> None:
    found = endpoint()
    found.note_end("a", 11, is_terminal=True)
    assert not found.is_finished
