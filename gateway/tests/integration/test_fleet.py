"""Who could paint what, and why a job waits or went where it went."""

from typing import Any

import httpx
from simulated_system import DECISION, MODEL, SimulatedSystem, beat, heartbeat

from dreamforge.contracts.events import Candidate, Decision, JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.models.descriptor import Tier, VramProfile
from dreamforge.runtime import clock, ids
from dreamforge.runtime.testing import eventually


async def first_attempt(system: SimulatedSystem, job_id: str, runner_id: str, decision: Decision) -> None:
    """A runner is at work on a job."""
    await system.insert(
        "attempts",
        job_id=job_id,
        attempt=1,
        runner_id=runner_id,
        instance_id="i1",
        status="running",
        estimated_vram_bytes=2**30,
        decision=decision.model_dump(mode="json"),
        assigned_at=clock.now(),
    )


async def test_why_a_job_waits(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    waiting, urgent, running = ids.new_id(), ids.new_id(), ids.new_id()
    await system.insert_job(waiting)
    alone = (await client.get(f"/v1/jobs/{waiting}/why")).json()
    assert alone["summary"] == "It waits because no runner is alive. It is next in the queue."

    await system.insert_job(urgent, priority=9)
    await system.insert_job(running, status="running", attempt=1, runner_id="busy")
    await first_attempt(system, running, "busy", DECISION)
    await beat(
        system,
        client,
        heartbeat("busy"),
        heartbeat("small", budget_bytes=2**20),
        heartbeat("other", models=()),
    )
    why = (await client.get(f"/v1/jobs/{waiting}/why")).json()
    assert why["waiting"]["ahead"] == 1
    assert {each["runner_id"] for each in why["waiting"]["candidates"]} == {"busy", "small", "other"}
    assert "busy (busy: all 1 slots taken)" in why["summary"]
    assert "small (too small: needs 1.0 GiB" in why["summary"]
    assert "1 waiting job before it" in why["summary"]

    await beat(system, client, heartbeat("free"))
    able = (await client.get(f"/v1/jobs/{waiting}/why")).json()
    assert "free could take it now" in able["summary"]


async def test_why_a_job_went_where_it_went(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = ids.new_id()
    decision = DECISION.model_copy(
        update={
            "candidates": (
                Candidate(runner_id="r1", score=110.0, reasons=("model is loaded", "1 of 1 slots free")),
                Candidate(runner_id="r2", refused="too small: needs 8589934592 bytes, can offer 1073741824"),
            )
        }
    )
    await system.insert_job(job_id, status="running", attempt=1, runner_id="r1")
    await first_attempt(system, job_id, "r1", decision)
    why = (await client.get(f"/v1/jobs/{job_id}/why")).json()
    assert why["summary"] == "r1 is rendering attempt 1."
    assert why["waiting"] is None
    (attempt,) = why["attempts"]
    assert attempt["decision"]["candidates"][0]["score"] == 110.0
    assert "given to r1 (model is loaded, 1 of 1 slots free)" in attempt["summary"]
    assert "r2 (too small: needs 8.0 GiB, can offer 1.0 GiB)" in attempt["summary"]


async def test_the_catalogue_is_the_registry_with_the_live_fleet(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    await beat(system, client, heartbeat("r1"), heartbeat("r2", models=()))
    (model,) = (await client.get("/v1/models")).json()["models"]
    assert model["descriptor"] == MODEL.model_dump(mode="json")
    assert (model["default"], model["runners"], model["resident_on"]) == (True, ["r1"], ["r1"])
    presets = (await client.get("/v1/presets")).json()["presets"]
    assert [(each["preset"]["name"], each["default"]) for each in presets] == [("small", True), ("wide", False)]
    assert (await client.get("/v1/presets", params={"model_id": "x"})).json() == {"presets": []}
    assert model["parameters"]["properties"]["width_px"]["maximum"] == MODEL.side_px_max


async def test_presets_say_where_they_fit_in_which_tier_and_why_not(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    frugal = VramProfile(resident_bytes=2**28, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    tiers = (Tier(name="full", vram=MODEL.vram), Tier(name="frugal", vram=frugal, offload="model"))
    await system.register(MODEL.model_copy(update={"model_id": "tiered", "tiers": tiers}))
    both = ("m", "tiered")
    large, middle = heartbeat("large", models=both), heartbeat("middle", models=both, budget_bytes=2**29)
    await beat(system, client, large, middle, heartbeat("without", models=()))

    async def presets() -> list[Any]:
        return list((await client.get("/v1/presets", params={"model_id": "tiered"})).json()["presets"])

    await eventually(presets)
    found = {each["runner_id"]: each for each in (await presets())[0]["runners"]}
    assert {name: each["tier"] for name, each in found.items()} == {
        "large": "full",
        "middle": "frugal",
        "without": None,
    }
    assert "does not have model 'tiered'" in found["without"]["refused"]
    plain = (await client.get("/v1/presets", params={"model_id": "m"})).json()["presets"][0]["runners"]
    assert next(each for each in plain if each["runner_id"] == "middle")["refused"].startswith("too small")


async def test_the_default_preset_is_that_of_the_largest_card_that_has_the_model(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    small, large = (
        preset.model_copy(update={"card_gb": gb}) for preset, gb in zip(MODEL.presets, (8, 24), strict=True)
    )
    await system.register(MODEL.model_copy(update={"model_id": "film", "presets": (small, large)}))

    async def default(asked: str = "film") -> list[str]:
        presets = (await client.get("/v1/presets", params={"model_id": asked})).json()["presets"]
        return [each["preset"]["name"] for each in presets if each["default"]]

    def on_card(runner_id: str, gib: int, kind: str = "cuda") -> Heartbeat:
        device = Device(kind=kind, name="test", total_bytes=gib * 2**30)
        beat_of = heartbeat(runner_id, models=("m", "film"))
        return beat_of.model_copy(update={"device": device})

    await eventually(default, until=lambda names: names == ["small"])
    await beat(system, client, on_card("cpu", 256, "cpu"), on_card("desk", 12))
    assert await default() == ["small"], "memory of a CPU is no card"
    await beat(system, client, on_card("rack", 24))
    assert await eventually(default, until=lambda names: names == ["wide"]) == ["wide"]
    assert await default("m") == [MODEL.presets[0].name]
    job = (await client.post("/v1/jobs", json={"prompt": "a", "model_id": "film"})).json()
    requested = (await system.store.load(job["job_id"])).history[0].event
    assert isinstance(requested, JobRequested)
    assert requested.request.preset == "wide", "recorded, so that a card that leaves changes nothing"
    models = (await client.get("/v1/models")).json()["models"]
    schema = next(each for each in models if each["descriptor"]["model_id"] == "film")["parameters"]
    assert schema["properties"]["preset"]["default"] == "wide"


async def test_a_runner_that_fell_silent_stays_listed_without_a_heartbeat(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    await system.insert(
        "runners",
        runner_id="gone",
        sequence=1,
        instance_id="i0",
        status="lost",
        renderer="diffusers",
        device={"kind": "cpu", "name": "c", "total_bytes": 1},
        slots=1,
        model_ids=["m"],
        registered_at=clock.now(),
        changed_at=clock.now(),
    )
    await beat(system, client, heartbeat("new"))
    runners = {each["runner_id"]: each for each in (await client.get("/v1/runners")).json()["runners"]}
    assert (runners["gone"]["status"], runners["gone"]["heartbeat"]) == ("lost", None)
    assert (runners["new"]["status"], runners["new"]["heartbeat"]["slots"]) == ("online", 1)
