"""The law of progress, on real Postgres: one row for each job, its newest honest step."""

import asyncio
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import StepProgressed
from dreamforge.contracts.log.envelope import seal
from dreamforge.projector.folding.decode import Decoded, decode
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.writing.folds import StepsFold
from dreamforge.projector.writing.session import Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime.log.message import LogMessage

T0 = datetime(2026, 11, 23, tzinfo=UTC)
ASSIGNMENT = """INSERT INTO attempts (job_id, attempt, runner_id, instance_id, status, estimated_vram_bytes, decision,
assigned_at) VALUES (%s, 1, 'r1', 'i1', 'running', 1, '{}', now())"""
JOBS = ("a", "b", "c")


def messages_of(log: list[tuple[str, StepProgressed]]) -> list[Decoded]:
    messages = []
    for sequence, (job_id, step) in enumerate(log, 1):
        sealed = seal(step, entity_id=job_id, event_id=f"e{sequence}", source="/test")
        messages.append(LogMessage(sealed.subject, sealed.headers, sealed.data, sequence))
    return decode(messages)


@given(st.lists(st.tuples(st.sampled_from(JOBS), st.integers(1, 50)), min_size=1, max_size=40), st.data())
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_newest_step_of_the_runner_that_has_the_attempt_wins_whatever_the_batches(
    database_url: str, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    log = [
        (job_id, StepProgressed(at=T0, attempt=1, image_index=0, images=1, step=step, steps=50, elapsed_seconds=0.5,
                                eta_seconds=1, written_by=runner_id))
        for job_id, step in steps
        for runner_id in ("intruder", "r1", "intruder")
    ]  # fmt: skip
    messages = messages_of(log)

    async def fold() -> dict[str, int]:
        async with Session.open(database_url, name="test") as session:
            for table in ("jobs", "attempts", "steps", "checkpoints"):
                await session.connection.execute(f"DELETE FROM {table}".encode())
            await session.prepare()
            await session.checkpoint("STEPS", "log")
            for job_id in JOBS:
                await session.connection.execute(ASSIGNMENT, (job_id,))
            projection = StreamProjection(session, StepsFold(), None, park_nothing, 1000)  # type: ignore[arg-type]
            size = data.draw(st.integers(1, len(messages)))
            for first in range(0, len(messages), size):
                await projection.apply(messages[first : first + size])
            found = await (await session.connection.execute("SELECT job_id, step FROM steps")).fetchall()
            return {str(row[0]): int(str(row[1])) for row in found}

    assert asyncio.run(fold()) == dict(steps)
