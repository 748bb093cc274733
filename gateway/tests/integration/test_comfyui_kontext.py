"""ComfyUI's template of FLUX Kontext, over HTTP: the size of the render follows from the image that was sent."""

import io
from typing import Any

import httpx
from PIL import Image
from simulated_system import MODEL, SimulatedSystem, models

from dreamforge.runtime.testing import eventually

KONTEXT = MODEL.model_copy(
    update={"model_id": "kontext", "family": "flux-kontext", "side_px_max": 2048, "size_multiple_px": 16}
)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def template(image: str) -> dict[str, Any]:
    settings = {"seed": 7, "steps": 4, "cfg": 1, "sampler_name": "euler", "scheduler": "simple", "denoise": 1}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="kontext"),
        "2": node("LoadImage", image=image),
        "3": node("FluxKontextImageScale", image=["2", 0]),
        "4": node("VAEEncode", pixels=["3", 0], vae=["1", 2]),
        "5": node("CLIPTextEncode", text="make it green", clip=["1", 1]),
        "6": node("ReferenceLatent", conditioning=["5", 0], latent=["4", 0]),
        "7": node("KSampler", model=["1", 0], positive=["6", 0], negative=["5", 0], latent_image=["4", 0], **settings),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="kontext"),
        "10": node("PreviewImage", images=["3", 0]),
    }


async def test_the_render_has_the_size_that_the_template_scales_its_reference_to(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    await system.register(KONTEXT)
    await eventually(lambda: models(client), until=lambda found: len(found) == 2)
    out = io.BytesIO()
    Image.new("RGB", (100, 140)).save(out, "PNG")
    sent = await client.post("/upload/image", files={"image": ("a.png", out.getvalue(), "image/png")})
    name = sent.json()["name"]
    answer = await client.post("/prompt", json={"prompt": template(name)})
    assert answer.status_code == 200, answer.text
    state = (await system.store.load(answer.json()["prompt_id"])).state
    assert state.request is not None
    assert (state.request.width_px, state.request.height_px) == (880, 1184)
    assert state.request.references == (name.removesuffix(".png"),)
    unknown = await client.post("/prompt", json={"prompt": template(f"{'f' * 64}.png")})
    assert unknown.status_code == 400
    assert set(unknown.json()["node_errors"]) == {"2"}
