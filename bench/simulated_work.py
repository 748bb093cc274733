"""Fleets and queues to simulate: synthetic ones of stated proportions, and those of a recorded planning input."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bench.simulated_fleet import START, Arrival, RunnerModel

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.planning_input import PlanningInput

GB = 10**9
#: A slow card takes four times as long as a fast one, at every model.
SLOW = 4.0
#: Bytes and seconds a megapixel and step on a fast card: about SD 1.5, SDXL and a 12-billion transformer.
MODELS = {"small": (2 * GB, 0.025), "medium": (7 * GB, 0.1), "large": (13 * GB, 0.4)}
SIDES = (512, 768, 1024)
#: Of a card's memory, for models that stay loaded.
RESIDENT_PART = 0.8


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and how much of what it could do is asked of it. `burst`: jobs that arrive at once."""

    name: str
    fast: int
    slow: int
    load: float
    burst: int = 1
    disk_bytes_per_second: float = 1e9


def synthetic(scenario: Scenario, jobs: int, seed: int) -> tuple[list[RunnerModel], list[Arrival]]:
    """The runners and the jobs of a scenario."""
    chance = random.Random(seed)
    models = {name: _model(name, size) for name, (size, _) in MODELS.items()}
    runners = [_runner(f"fast-{n}", 1.0, scenario, models) for n in range(scenario.fast)]
    runners += [_runner(f"slow-{n}", SLOW, scenario, models) for n in range(scenario.slow)]
    events = [_requested(chance) for _ in range(jobs)]
    return runners, _arrivals(runners, events, scenario.load, scenario.burst, chance)


def recorded(path: Path, jobs: int, seed: int, load: float = 0.7) -> tuple[list[RunnerModel], list[Arrival]]:
    """The runners of a captured planning input, each with its models and at its pace, and jobs drawn from the queue."""
    chance = random.Random(seed)
    captured = PlanningInput.model_validate_json(path.read_text())
    models = {model.model_id: model for model in captured.models}
    runners = [_recorded_runner(beat, captured.fleet, models) for beat in captured.fleet]
    demands = [job.demand for job in captured.jobs]
    events = []
    for demand in (chance.choice(demands) for _ in range(jobs)):
        shape = demand.shape
        event = _request(shape.model_id, shape.width_px, shape.height_px, max(1, round(demand.steps)), demand.images)
        events.append(event.model_copy(update={"tenant": demand.tenant}))
    return runners, _arrivals(runners, events, load, 1, chance)


def _recorded_runner(beat: Heartbeat, fleet: tuple[Heartbeat, ...], models: dict[str, ModelDescriptor]) -> RunnerModel:
    has = {name: models[name] for name in beat.model_ids}
    return RunnerModel(
        beat.runner_id,
        beat.device.name,
        beat.budget_bytes,
        {name: _measured_pixel(name, beat, fleet) for name in has},
        beat.times.load_bytes_per_second or GB,
        max(beat.times.beside.values(), default=0.0),
        has,
        _recorded_room(beat, has),
        beat.times,
    )


def _recorded_room(beat: Heartbeat, has: dict[str, ModelDescriptor]) -> int:
    """What loaded models may take, which no heartbeat says: no more than now, where one of them had to leave."""
    if set(beat.times.loads) <= set(beat.resident_model_ids):
        return int(RESIDENT_PART * beat.budget_bytes)
    return sum(has[name].vram.resident_bytes for name in beat.resident_model_ids)


def _arrivals(
    runners: list[RunnerModel], events: list[JobRequested], load: float, burst: int, chance: random.Random
) -> list[Arrival]:
    """A Poisson process of bursts at such a rate that the fleet is busy for `load` of the time, without loads.

    A runner counts for what it could do of the jobs whose model it has.
    """
    able = [[_seconds(runner, each) for each in events if each.request.model_id in runner.models] for runner in runners]
    rate = load * sum(len(seconds) / sum(seconds) for seconds in able if seconds)
    gaps = [chance.expovariate(rate / burst) if not number % burst else 0.0 for number in range(len(events))]
    return [Arrival(at, event) for at, event in zip(accumulate(gaps), events, strict=True)]


def _seconds(runner: RunnerModel, event: JobRequested) -> float:
    needs, request = needs_of(event.request), event.request
    return request.images * (runner.step_seconds(needs) * request.steps_at_full_size + runner.beside(needs))


def _runner(name: str, times: float, scenario: Scenario, models: dict[str, ModelDescriptor]) -> RunnerModel:
    pixel = {model: times * seconds / 2**20 for model, (_, seconds) in MODELS.items()}
    budget = 24 * GB if times == 1.0 else 16 * GB
    disk = scenario.disk_bytes_per_second
    return RunnerModel(
        name, "fast" if times == 1.0 else "slow", budget, pixel, disk, 0.3 * times, models, int(RESIDENT_PART * budget)
    )


def _requested(chance: random.Random) -> JobRequested:
    model_id = chance.choices(tuple(MODELS), (5, 4, 1))[0]
    side, steps = chance.choice(SIDES), chance.choice((20, 30))
    event = _request(model_id, side, side, steps, chance.choices((1, 4), (4, 1))[0])
    return event.model_copy(update={"tenant": chance.choice(("one", "two", "three"))})


def _request(model_id: str, width_px: int, height_px: int, steps: int, images: int) -> JobRequested:
    request = RenderRequest(
        model_id=model_id, preset="p", prompt="x", width_px=width_px, height_px=height_px, steps=steps,
        guidance_scale=0, seed=0, images=images,
    )  # fmt: skip
    return JobRequested(at=START, tenant="one", request=request)


def _model(name: str, resident_bytes: int) -> ModelDescriptor:
    return ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=resident_bytes, denoise_bytes_per_latent=0, decode_bytes_per_px=100),
        presets=(Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=0),),
    )


def _measured_pixel(model_id: str, beat: Heartbeat, fleet: tuple[Heartbeat, ...]) -> float:
    """The mean seconds a step of one pixel that a runner has measured for a model, or else the whole fleet has."""
    of_model = list(_pixels(model_id, beat)) or [seconds for other in fleet for seconds in _pixels(model_id, other)]
    return sum(of_model) / len(of_model)


def _pixels(model_id: str, beat: Heartbeat) -> Iterator[float]:
    for shape, by_size in beat.times.steps.items():
        name, _, size = shape.rpartition(" ")
        if name == model_id:
            width_px, height_px = (int(side) for side in size.split("x"))
            yield min(by_size.values()) / (width_px * height_px)
