"""The hooks of diffusers and accelerate move a tiny pipeline between the host's memory and a card that is too small."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task
from runner_testkit.worker import Worker

from dreamforge.gpu_runner.machine.memory import Memory
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import Failed, FromChild, Image, RungsLearnt, Warned

pytestmark = pytest.mark.torch
FAMILY = "stable-diffusion"
OFFLOADS = (Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP)


@pytest.fixture(scope="module")
def card() -> Any:  # Any, as below: their modules import torch
    from runner_testkit.pretend_card import PretendCard

    return PretendCard()


@pytest.fixture(scope="module")
def memory(card: Any) -> Any:
    """What each run held on the card."""
    from runner_testkit.pretend_card import CardMemory

    return CardMemory(card)


@pytest.fixture(scope="module")
def renderer(memory: Any) -> Any:
    from runner_testkit.pretend_card import card_renderer

    return card_renderer(memory)


class CardWorker(Worker):
    """One child's worker on the card."""

    def __init__(self, renderer: Any, card: Any, cache: Path) -> None:
        from runner_testkit.families import ensure_family

        super().__init__(renderer)
        self._card, self._folder = card, str(ensure_family(cache, FAMILY))

    def render(self, **changes: Any) -> list[FromChild]:
        fields = {"task_id": "a", "model_id": FAMILY, "model_path": self._folder, "steps": 2}
        with self._card:
            return self.run(render_task(**fields | changes))


def images(heard: list[FromChild]) -> list[bytes]:
    return [each.body for each in heard if isinstance(each, Image)]


def warned(heard: list[FromChild]) -> list[Warned]:
    return [each for each in heard if isinstance(each, Warned)]


def test_each_offload_is_taken_where_the_way_before_does_not_fit_and_changes_no_byte(
    renderer: Any, card: Any, memory: Any, cache: Path
) -> None:
    worker = CardWorker(renderer, card, cache)
    whole = images(worker.render())
    assert len(whole) == 1
    for rung, taken in ((Rung.OFFLOAD_MODEL, OFFLOADS[:1]), (Rung.OFFLOAD_GROUP, OFFLOADS)):
        card.memory.limit_bytes = memory.peaks[-1] * 9 // 10  # of the last way that fitted
        heard = worker.render()
        (warning,) = warned(heard)
        assert warning.words == (rung,)
        assert "Tried to allocate" in warning.message
        assert "peak so far" in warning.message
        assert [each.rungs for each in heard if isinstance(each, RungsLearnt)] == [taken]
        assert images(heard) == whole
        assert memory.peaks[-1] <= card.memory.limit_bytes
        assert card.memory.live_bytes == 0  # all of it is back in the host's memory
    runs = len(memory.peaks)
    assert not warned(worker.render(seed=2))
    assert len(memory.peaks) == runs + 1  # begun on the rung that worked: none fails before it


def test_a_host_without_memory_takes_no_weights_and_what_it_lacks_is_told(
    renderer: Any, card: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamforge.gpu_runner.rendering import diffusers_renderer

    monkeypatch.setattr(diffusers_renderer, "system_memory", lambda: Memory(2**30, 2**20))
    card.memory.limit_bytes = 2**20
    heard = CardWorker(renderer, card, cache).render(rungs=(Rung.TILED_DECODE, Rung.FLOAT8_STORAGE))
    (failed,) = [each for each in heard if isinstance(each, Failed)]
    assert "offload_model, offload_group: the host's memory is full" in failed.message
    assert "1.0 MiB are free" in failed.message
    assert not warned(heard)
