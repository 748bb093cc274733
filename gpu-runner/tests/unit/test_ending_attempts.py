"""How much may end beside a render is bounded, in attempts and in bytes."""

import asyncio

from dreamforge.contracts.fleet import ActiveAttempt
from dreamforge.gpu_runner.supervisor.ending_attempts import WAITING_BYTES, EndingAttempts


def attempt(name: str) -> ActiveAttempt:
    return ActiveAttempt(job_id=name, attempt=1)


def test_no_more_attempts_end_at_a_time_than_may_run() -> None:
    news: list[int] = []
    ending = EndingAttempts(2, on_change=lambda: news.append(1))
    assert [ending.add(name, attempt(name)) for name in ("a", "a", "b", "c")] == [True, True, True, False]
    assert len(news) == 2
    ending.remove("a")
    assert ending.add("c", attempt("c"))
    assert [each.job_id for each in ending.members] == ["b", "c"]


async def test_an_attempt_keeps_its_slot_while_too_many_bytes_wait_for_the_object_store() -> None:
    ending, upload = EndingAttempts(2), asyncio.get_running_loop().create_future()
    ending.hold(upload, WAITING_BYTES + 1)
    assert not ending.add("a", attempt("a"))
    upload.set_result(None)
    await asyncio.sleep(0)
    assert ending.add("a", attempt("a"))
