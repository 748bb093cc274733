"""Fleets and queues to simulate: synthetic ones of stated proportions, and those of a recorded planning input."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bench.simulated_fleet import START, Arrival, RunnerModel

from dreamforge.contracts.events import JobRequested
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


def recorded(path: Path, jobs: int, seed: int) -> tuple[list[RunnerModel], list[Arrival]]:
    """The runners of a captured planning input at the pace that they had measured, and jobs drawn from its queue."""
    chance = random.Random(seed)
    captured = PlanningInput.model_validate_json(path.read_text())
    models = {model.model_id: model for model in captured.models}
    runners = [
        RunnerModel(
            beat.runner_id,
            beat.device.name,
            beat.budget_bytes,
            {name: _measured_pixel(name, beat.times.steps) for name in models},
            beat.times.load_bytes_per_second or GB,
            max(beat.times.beside.values(), default=0.0),
            models,
        )
        for beat in captured.fleet
    ]
    demands = [job.demand for job in captured.jobs]
    events = []
    for demand in (chance.choice(demands) for _ in range(jobs)):
        shape = demand.shape
        event = _request(shape.model_id, shape.width_px, shape.height_px, max(1, round(demand.steps)), demand.images)
        events.append(event.model_copy(update={"tenant": demand.tenant}))
    return runners, _arrivals(runners, events, 0.7, 1, chance)


def _arrivals(
    runners: list[RunnerModel], events: list[JobRequested], load: float, burst: int, chance: random.Random
) -> list[Arrival]:
    """A Poisson process of bursts at such a rate that the fleet is busy for `load` of the time."""
    rate = load * sum(len(events) / sum(_seconds(runner, each) for each in events) for runner in runners)
    gaps = [chance.expovariate(rate / burst) if not number % burst else 0.0 for number in range(len(events))]
    return [Arrival(at, event) for at, event in zip(accumulate(gaps), events, strict=True)]


def _seconds(runner: RunnerModel, event: JobRequested) -> float:
    needs, request = needs_of(event.request), event.request
    step = runner.seconds_a_pixel[request.model_id] * needs.width_px * needs.height_px
    return request.images * (step * request.steps_at_full_size + runner.beside_seconds)


def _runner(name: str, times: float, scenario: Scenario, models: dict[str, ModelDescriptor]) -> RunnerModel:
    pixel = {model: times * seconds / 2**20 for model, (_, seconds) in MODELS.items()}
    budget = 24 * GB if times == 1.0 else 16 * GB
    disk = scenario.disk_bytes_per_second
    return RunnerModel(name, "fast" if times == 1.0 else "slow", budget, pixel, disk, 0.3 * times, models)


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


def _measured_pixel(model_id: str, steps: dict[str, dict[int, float]]) -> float:
    """The mean seconds a step of one pixel that a runner has measured for a model; for another, of any."""
    every = list(_pixels(steps))
    of_model = [seconds for name, seconds in every if name == model_id] or [seconds for _, seconds in every]
    return sum(of_model) / len(of_model)


def _pixels(steps: dict[str, dict[int, float]]) -> Iterator[tuple[str, float]]:
    for shape, by_size in steps.items():
        name, _, size = shape.rpartition(" ")
        width_px, height_px = (int(side) for side in size.split("x"))
        yield name, min(by_size.values()) / (width_px * height_px)
