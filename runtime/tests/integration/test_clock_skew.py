"""The clock of the log is measured, ours is corrected by it, and both are told."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from loguru import logger

from dreamforge.runtime import clock
from dreamforge.runtime.log import clock_skew
from dreamforge.runtime.log.bus import Bus


@pytest.fixture(autouse=True)
def _right_afterwards() -> Iterator[None]:
    yield
    clock.correct(0.0)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(handler)


async def test_a_clock_that_is_wrong_is_corrected_and_told_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    right = clock.machine_now
    monkeypatch.setattr(clock, "machine_now", lambda: right() + timedelta(hours=-2))
    for _ in range(2):
        await clock_skew.measure_first(bus)
    assert abs(clock.now() - right()) < timedelta(seconds=1)
    assert clock.skew_seconds() == pytest.approx(-7200, abs=1)
    assert warnings == ["this machine's clock is 7200.0 s behind the log's: times are corrected by it; set it by NTP"]


async def test_a_clock_that_is_right_is_left_alone(bus: Bus, warnings: list[str]) -> None:
    await clock_skew.measure_first(bus)
    assert (clock.skew_seconds(), warnings) == (0.0, [])


def test_small_changes_of_a_correction_do_not_move_the_time() -> None:
    for measured, corrected in ((10.0, 10.0), (10.2, 10.0), (10.3, 10.3), (0.4, 0.0), (-0.4, 0.0)):
        clock_skew.apply(measured)
        assert clock.skew_seconds() == corrected
