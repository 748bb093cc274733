"""What can never be painted is refused at the door, with the numbers and names; what can be later is accepted."""

from typing import Any

import httpx
from simulated_system import BODY, MODEL, SimulatedSystem, beat, heartbeat, models

from dreamforge.contracts.fleet import Heartbeat, batch_shape
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.runtime.testing import eventually

LORA = ModelDescriptor(
    model_id="other-lora", family="flux", kind="lora", digest="1" * 64, vram=MODEL.vram.model_copy(deep=True)
)


async def test_a_model_larger_than_every_runner_that_has_it_is_refused(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    await beat(system, client, heartbeat("elsewhere", models=()))
    assert (await client.post("/v1/jobs", json=BODY)).status_code == 202  # one that has it may be on its way
    await beat(system, client, heartbeat("tiny", budget_bytes=2**20), heartbeat("small", budget_bytes=2**29))
    refused = await client.post("/v1/jobs", json=BODY)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["largest_bytes"]) == (422, "model_too_large", 2**29)
    assert problem["needed_bytes"] > 2**30
    assert problem["errors"][0]["pointer"] == "/model_id"
    assert str(problem["needed_bytes"]) in problem["detail"]
    await beat(system, client, heartbeat("large"))
    assert (await client.post("/v1/jobs", json=BODY)).status_code == 202


async def test_what_was_observed_decides_in_the_tier_that_needs_least(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    shape = batch_shape(MODEL.model_id, 64, 64)
    weights_bytes = MODEL.vram.resident_bytes

    def having_seen(name: str, peak_bytes: int, budget_bytes: int) -> Heartbeat:
        memory = ObservedMemory(peaks={shape: {"": peak_bytes}})
        return heartbeat(name, budget_bytes=budget_bytes).model_copy(update={"memory": memory})

    # By the estimate, 4096 bytes more than the weights, it fits into this one.
    await beat(system, client, having_seen("needs-more", 2 * weights_bytes, weights_bytes + 2**20))
    refused = await client.post("/v1/jobs", json=BODY)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["tier"]) == (422, "model_too_large", "full")
    assert problem["needed_bytes"] >= 2 * weights_bytes > problem["largest_bytes"]
    # And not into this one, which has rendered it.
    await beat(system, client, having_seen("needs-less", weights_bytes // 2, weights_bytes + 2**10))
    assert (await client.post("/v1/jobs", json=BODY)).status_code == 202


async def test_what_no_runner_computes_in_is_refused_with_what_to_install(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    def computing(name: str, ways: dict[str, str], *, starting: bool = False, **values: Any) -> Heartbeat:
        return heartbeat(name, **values).model_copy(update={"quantisations": ways, "starting": starting})

    async def submitted(**values: Any) -> httpx.Response:
        return await client.post("/v1/jobs", json=BODY | values)

    why = 'torchao is not installed: install "dreamforge-gpu-runner[torchao]" where the runner is'
    await beat(system, client, computing("without", {"int8": why, "float8": why}))
    refused = await submitted(quantisation="int8")
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "quantisation_unavailable")
    assert why in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/quantisation"
    assert (await submitted(quantisation="none")).status_code == 202
    # Of those that compute so, none is large enough.
    await beat(system, client, computing("small", {"int8": ""}, budget_bytes=2**20))
    assert (await submitted(quantisation="int8")).json()["code"] == "model_too_large"
    await beat(system, client, computing("large", {"int8": "", "float8": why}))
    assert (await submitted(quantisation="int8")).status_code == 202
    assert (await submitted(quantisation="float8")).status_code == 422
    await beat(system, client, computing("new", {}, starting=True))
    assert (await submitted(quantisation="float8")).status_code == 202  # it may turn out that it can


async def test_assets_are_listed_and_refused_where_they_do_not_fit(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    sdxl = MODEL.model_copy(update={"model_id": "xl", "family": "stable-diffusion-xl"})
    for model in (LORA, sdxl):
        await system.register(model)
    await eventually(lambda: models(client), until=lambda found: len(found) == 3)
    shown = {each["descriptor"]["model_id"]: each for each in await models(client)}
    assert shown["other-lora"]["parameters"] is None
    assert [name for name, each in shown.items() if each["default"]] == ["m"]
    cases: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"model_id": "other-lora"}, "not_a_pipeline", "/model_id"),
        ({"model_id": "xl", "loras": [{"model_id": "other-lora"}]}, "asset_mismatch", "/loras/0/model_id"),
        ({"model_id": "xl", "loras": [{"model_id": "nope"}]}, "unknown_asset", "/loras/0/model_id"),
        ({"model_id": "xl", "sampler": "flow_euler"}, "not_allowed_by_model", "/sampler"),
        ({"model_id": "xl", "sampler": "Euler"}, "invalid_request", "/sampler"),
        ({"model_id": "m", "loras": [{"model_id": "other-lora"}]}, "not_allowed_by_model", "/loras"),
        ({"model_id": "xl", "upscale": {"factor": 5}}, "out_of_bounds", "/upscale/factor"),
    )
    for change, code, pointer in cases:
        response = await client.post("/v1/jobs", json=BODY | change)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (422, code), problem
        assert problem["errors"][0]["pointer"] == pointer, problem
    mismatch = await client.post("/v1/jobs", json=BODY | cases[1][0])
    assert "'flux'" in mismatch.json()["detail"]
    assert "'stable-diffusion-xl'" in mismatch.json()["detail"]


async def test_a_removed_model_is_unknown(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    await system.register(MODEL.model_copy(update={"model_id": "stays"}))
    await system.unregister("m")
    await eventually(
        lambda: models(client), until=lambda found: [each["descriptor"]["model_id"] for each in found] == ["stays"]
    )
    refused = await client.post("/v1/jobs", json=BODY | {"model_id": "m"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")
    assert "known models: stays" in refused.json()["detail"]
