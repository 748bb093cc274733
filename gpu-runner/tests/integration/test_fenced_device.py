"""A card that fails in the middle of a render: its attempts go elsewhere, and the runner says why it takes no more."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from dreamforge.contracts.events import AttemptFailed, FailureReason
from dreamforge.contracts.fleet import DeviceHealth
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.placement import Needs, RunnerLoad, judge
from dreamforge.gpu_runner.machine.device import LocalDevice
from dreamforge.gpu_runner.machine.device_health import DeviceEvent, XidError, health
from dreamforge.gpu_runner.protocol.messages import Ready
from dreamforge.gpu_runner.protocol.recipe import Engine
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor import supervisor
from dreamforge.runtime.testing import eventually

from .stage import Stage

CARD = LocalDevice("cuda", "NVIDIA Test", "600.1", 8 * 2**30, 7 * 2**30, uuid="GPU-of-a-test")


@dataclass
class Watch:
    """What the driver reports: its own tests are in test_device_health."""

    gpu_index: int
    events: list[DeviceEvent] = field(default_factory=list)

    def poll(self) -> DeviceHealth:
        return health(self.events)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watch:
    made = Watch(0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(supervisor, "DeviceWatch", lambda _index: made)
    monkeypatch.setattr(supervisor, "probe", lambda *_, **__: CARD)
    monkeypatch.setattr(supervisor, "refresh", lambda device, **_: device)
    return made


def ready(device: Literal["cpu", "cuda"]) -> Ready:
    engine = Engine(renderer="diffusers", device=device, device_name="x", dtype="float32", threads=1, versions={})
    return Ready(engine=engine, total_bytes=1, free_bytes=1, driver="", note="no CUDA device")


async def test_a_card_that_torch_does_not_find_again_is_not_replaced_by_the_processor(stage: Stage) -> None:
    settings = RunnerSettings(_env_file=None, runner_id="r2", state_dir=Path("unused"))
    lost, never_had = (supervisor.Supervisor(settings, stage.bus, stage.objects) for _ in range(2))
    for made, devices in ((lost, ("cuda", "cpu")), (never_had, ("cpu",))):
        made.device = CARD
        for device in devices:
            made.child.ready = ready(device)
            made._child_changed()
    assert (lost.health.state, lost.child.fenced) == ("fenced", True)
    assert (never_had.health.state, never_had.device.kind) == ("healthy", "cpu")


async def test_a_card_that_fails_gives_its_attempts_back_and_takes_no_more(stage: Stage, watch: Watch) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    watch.events.append(XidError(79))
    state = await eventually(lambda: stage.state(job_id), until=lambda state: state.status is Status.QUEUED)
    (failed,) = [event for event in await stage.events(job_id) if isinstance(event, AttemptFailed)]
    assert (failed.reason, failed.retryable) == (FailureReason.RUNNER_DRAINED, True)
    assert "XID 79: it has fallen off the bus" in failed.message
    assert state.retry_at is not None
    assert state.retry_at <= failed.at, "another runner can take it at once"
    # The first heartbeat that says so may still have the attempt that is about to end.
    beat = await eventually(
        stage.beat, until=lambda beat: beat is not None and beat.health.state == "fenced" and beat.active == ()
    )
    assert beat is not None
    assert (beat.draining, beat.starting) == (True, False)
    refused = judge(Needs("synthetic", 64, 64), {}, RunnerLoad(beat)).refused
    assert refused == "fenced: XID 79: it has fallen off the bus"
    again = await stage.submit()
    await eventually(
        lambda: stage.state(again), until=lambda state: state.status is Status.QUEUED and state.attempt == 1
    )
