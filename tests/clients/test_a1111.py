"""A1111's API: the `webuiapi` package, unmodified, and what SillyTavern, LibreChat and Open WebUI send."""

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import webuiapi  # type: ignore[import-untyped]
from PIL import Image, ImageChops, ImageDraw
from runner_testkit.assets import ensure_upscaler
from system_testkit.documents import snippets
from system_testkit.live_stack import LiveStack

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.family_defaults import UPSCALER_PRESET, upscaler_vram_of
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest
from dreamforge.runtime.testing import eventually

SMALL = {"width": 64, "height": 64, "steps": 4}


@pytest.fixture
def client(gateway_url: str) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{gateway_url}/sdapi/v1")


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as client:
        yield client


def add_upscaler(stack: LiveStack) -> None:
    """An upscaler with random weights beside the tiny model, which the runner finds by itself."""
    folder = next(stack.folder.rglob(DESCRIPTOR_NAME)).parent.parent
    descriptor = ModelDescriptor(
        **{"model_id": "x4", "family": "esrgan", "kind": "upscaler", "scale": 4, "presets": (UPSCALER_PRESET,)},
        **{"digest": "0" * 64, "size_multiple_px": 1, "side_px_min": 8, "side_px_max": 8192},
        vram=upscaler_vram_of(10_000, 4),
    )
    files = ensure_upscaler(stack.folder / "built", 4)
    described = descriptor.model_copy(update={"digest": model_digest(files)})
    (files / DESCRIPTOR_NAME).write_text(described.model_dump_json())
    files.rename(folder / "x4")


def test_images_from_a_prompt_with_what_was_made(client: webuiapi.WebUIApi) -> None:
    found = client.txt2img(prompt="a fox", negative_prompt="blue", seed=7, n_iter=2, cfg_scale=3, **SMALL)
    assert [image.size for image in found.images] == [(64, 64)] * 2
    assert found.image.format == "PNG"
    assert (found.info["seed"], found.info["all_seeds"], found.info["sampler_name"]) == (7, [7, 8], "Euler a")
    assert found.info["infotexts"][0].startswith("a fox\nNegative prompt: blue\nSteps: 4, Sampler: Euler a")
    assert found.image.info["parameters"] == found.info["infotexts"][0]
    assert found.parameters["prompt"] == "a fox"
    again = client.txt2img(prompt="a fox", negative_prompt="blue", seed=8, cfg_scale=3, **SMALL)
    # Rendered together and alone, a pixel may differ by a level (docs/decisions/0055): it is the same picture.
    assert max(most for _, most in ImageChops.difference(again.image, found.images[1]).getextrema()) <= 2


def test_what_is_in_an_image_is_read(client: webuiapi.WebUIApi) -> None:
    found = client.txt2img(prompt="a fox", seed=7, sampler_name="DDIM", **SMALL)
    told = client.png_info(found.image)
    assert told.info == found.info["infotexts"][0]
    assert (told.parameters["Prompt"], told.parameters["Sampler"]) == ("a fox", "DDIM")


def test_lists_name_what_requests_take(client: webuiapi.WebUIApi) -> None:
    assert "Euler a" in client.util_get_sampler_names()
    assert {"automatic", "karras"} <= set(client.util_get_scheduler_names())
    titles = client.util_get_model_names()
    assert client.util_get_current_model() in titles
    assert [each["name"] for each in client.get_upscalers()][:3] == ["None", "Lanczos", "Nearest"]
    assert "Latent (nearest)" in [each["name"] for each in client.get_latent_upscale_modes()]
    assert client.get_embeddings() == {"loaded": {}, "skipped": {}}
    for empty in (
        *(client.get_sd_vae, client.get_hypernetworks, client.get_face_restorers),
        *(client.get_realesrgan_models, client.get_prompt_styles, client.get_loras),
    ):
        assert empty() == []
    assert client.get_scripts()["txt2img"] == ["controlnet"]
    assert client.controlnet_module_list()[:2] == ["none", "canny"]
    assert [title.partition(" ")[0] for title in client.controlnet_model_list()] == [
        "tiny-controlnet",
        "tiny-ip-adapter",
    ]
    assert client.get_cmd_flags()["api"] is True
    assert client.get_memory()["ram"]["total"] > 0
    assert client.refresh_checkpoints() is None


def test_a_model_is_selected(client: webuiapi.WebUIApi) -> None:
    titles = client.util_get_model_names()
    title = titles[0]
    client.util_set_model(title.partition(" ")[0])
    assert client.util_get_current_model() == title
    assert client.txt2img(prompt="a fox", **SMALL).info["sd_model_name"] == title.partition(" ")[0]
    refused = client.set_options({"sd_model_checkpoint": "none", "CLIP_stop_at_last_layers": 2})
    assert "CLIP_stop_at_last_layers has no" in refused["errors"] or "can be set here" in refused["errors"]
    assert f"must be one of: {', '.join(titles)}" in refused["errors"]


def test_an_image_is_rendered_anew_as_a_whole_and_where_a_mask_is_white(client: webuiapi.WebUIApi) -> None:
    start, mask = Image.new("RGB", (64, 64), (200, 30, 30)), Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=255)
    whole = client.img2img(images=[start], prompt="a fox", denoising_strength=0.5, **SMALL)
    assert whole.info["denoising_strength"] == 0.5
    left = {"mask_image": mask, "mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False}
    for inverted, kept in ((0, (32, 0, 64, 64)), (1, (0, 0, 32, 64))):
        part = client.img2img(images=[start], prompt="a fox", inpainting_mask_invert=inverted, **left, **SMALL)
        changed = ImageChops.difference(part.image.convert("RGB"), start)
        assert changed.crop(kept).getbbox() is None
        assert changed.getbbox() is not None


def test_only_the_masked_area_is_rendered_by_the_clients_own_defaults(client: webuiapi.WebUIApi) -> None:
    start, mask = Image.new("RGB", (150, 90), (200, 30, 30)), Image.new("L", (150, 90), 0)
    hole = (40, 30, 70, 60)
    ImageDraw.Draw(mask).rectangle(hole, fill=255)
    for fill in range(4):
        area: dict[str, Any] = {"mask_blur": 0, "inpainting_fill": fill, "inpaint_full_res_padding": 8, **SMALL}
        found = client.img2img(images=[start], mask_image=mask, prompt="a fox", **area)
        assert found.image.size == start.size
        left, top, right, bottom = ImageChops.difference(found.image.convert("RGB"), start).getbbox() or (0, 0, 0, 0)
        assert (left >= hole[0], top >= hole[1], right <= hole[2] + 1, bottom <= hole[3] + 1) == (True,) * 4
        assert right > left


def test_controlnets_are_followed_each_with_its_module_and_in_its_steps(client: webuiapi.WebUIApi) -> None:
    net, *_ = client.controlnet_model_list()
    drawn = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(drawn).rectangle((16, 16, 48, 48), fill="black")

    def rendered(*units: dict[str, Any]) -> Any:
        made = [webuiapi.ControlNetUnit(drawn, model=net, resize_mode="Just Resize", **unit) for unit in units]
        # webuiapi keeps what it has sent in the default of `alwayson_scripts`, and would send it with every later call.
        return client.txt2img(prompt="a fox", seed=7, controlnet_units=made, alwayson_scripts={}, **SMALL)

    edges, whole, half = {"module": "canny"}, {"weight": 0.5}, {"weight": 0.5, "guidance_end": 0.5}
    found = [rendered(*units).image.tobytes() for units in ((), (edges,), (whole,), (half,), (edges, half))]
    assert len(set(found)) == len(found)
    assert "ControlNet 0: " in rendered(edges, half).info["infotexts"][0]
    with pytest.raises(RuntimeError, match=r"openpose.*must be one of: none, canny"):
        rendered({"module": "openpose"})
    with pytest.raises(RuntimeError, match=r"alwayson_scripts\.controlnet\.args"):
        rendered(*[whole] * 4)


def test_a_second_pass_enlarges(client: webuiapi.WebUIApi) -> None:
    lanczos, latent = webuiapi.HiResUpscaler.Lanczos, webuiapi.HiResUpscaler.Latent
    again = {"prompt": "x", "seed": 3, "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.5, **SMALL}
    found = [client.txt2img(hr_upscaler=upscaler, **again) for upscaler in (lanczos, latent)]
    assert [each.image.size for each in found] == [(128, 128)] * 2
    assert ImageChops.difference(found[0].image.convert("RGB"), found[1].image.convert("RGB")).getbbox() is not None
    assert "Hires upscaler: Latent" in found[1].info["infotexts"][0]


async def test_finished_images_are_enlarged_by_a_registered_upscaler(
    client: webuiapi.WebUIApi, stack: LiveStack
) -> None:
    await asyncio.to_thread(add_upscaler, stack)
    await eventually(
        lambda: asyncio.to_thread(client.get_upscalers),
        60,
        until=lambda found: {"name": "x4", "scale": 4.0}.items() <= found[-1].items(),
    )
    image = Image.new("RGB", (30, 20), (200, 30, 30))
    one = await asyncio.to_thread(client.extra_single_image, image, upscaler_1="x4", upscaling_resize=4)
    assert one.image.size == (120, 80)
    several = await asyncio.to_thread(client.extra_batch_images, [image, image], upscaler_1="x4", upscaling_resize=2)
    assert [each.size for each in several.images] == [(60, 40)] * 2
    with pytest.raises(RuntimeError, match="but must be one of: x4"):
        await asyncio.to_thread(client.extra_single_image, image, upscaler_1="R-ESRGAN 4x+")
    again = {"prompt": "x", "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.5, **SMALL}
    assert (await asyncio.to_thread(client.txt2img, hr_upscaler="x4", **again)).image.size == (128, 128)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 100_000}, "steps: input should be less than or equal to 150"),
        ({"width": 60}, "width"),
        ({"restore_faces": True}, "restore_faces has no counterpart"),
        ({"sampler_name": "LMS"}, "sampler_name is 'LMS'"),
        ({"prompt": "<lora:none:1>"}, "prompt"),
        ({"adetailer": [webuiapi.ADetailer()]}, "alwayson_scripts.ADetailer is a script that is not served"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: webuiapi.WebUIApi, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        client.txt2img(**{"prompt": "a fox", **SMALL, **options}, alwayson_scripts={})
    status, body = refused.value.args
    assert (status, json.loads(body).keys()) == (422, {"error", "detail", "body", "errors"})
    assert says in json.loads(body)["errors"]


def test_what_is_not_served_says_so(client: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError, match="is not served here"):
        client.interrogate(Image.new("RGB", (8, 8)))


async def test_progress_has_a_preview_and_an_interrupt_ends_the_job(
    client: webuiapi.WebUIApi, http: httpx.AsyncClient
) -> None:
    task = asyncio.create_task(asyncio.to_thread(client.txt2img, prompt="long", n_iter=8, **SMALL | {"steps": 50}))
    seen = await eventually(
        lambda: asyncio.to_thread(client.get_progress), 60, until=lambda found: found["current_image"] is not None
    )
    assert Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))).format == "JPEG"
    assert 0 < seen["progress"] < 1
    assert (seen["state"]["job_count"], seen["state"]["sampling_steps"]) == (8, 50)
    others = (await http.post("/v1/jobs", json={"prompt": "another interface", "steps": 4})).json()
    assert "interrupt ends it" in (await asyncio.to_thread(client.skip))["errors"]
    assert await asyncio.to_thread(client.interrupt) == {}
    found = await asyncio.wait_for(task, 60)
    assert len(found.images) < 8
    await asyncio.to_thread(client.util_wait_for_ready, 0.1)

    async def status() -> str:
        return str((await http.get(others["links"]["self"])).json()["status"])

    assert (
        await eventually(status, 30, until=lambda found: found not in ("queued", "assigned", "running")) == "succeeded"
    )


async def test_the_calls_of_sillytavern(http: httpx.AsyncClient) -> None:
    """Of `src/endpoints/stable-diffusion.js` and `public/scripts/extensions/stable-diffusion/index.js`, 1.13."""
    for path in ("options", "upscalers", "latent-upscale-modes", "sd-vae", "samplers", "schedulers"):
        assert (await http.get(f"/sdapi/v1/{path}")).status_code == 200
    assert (await http.get("/sdapi/v1/sd-modules")).status_code == 404  # of Forge: it takes the other list then
    (model, *_) = (await http.get("/sdapi/v1/sd-models")).json()
    assert (await http.post("/sdapi/v1/options", json={"sd_model_checkpoint": model["title"]})).status_code == 200
    state = (await http.get("/sdapi/v1/progress")).json()
    assert (state["progress"], state["state"]["job_count"]) == (0.0, 0)
    body = {
        **{"url": str(http.base_url), "auth": "", "prompt": "a fox", "negative_prompt": "blue", "seed": 7},
        **{"sampler_name": "DDIM", "scheduler": "automatic", "steps": 4, "cfg_scale": 7, "width": 64, "height": 64},
        **{"restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 1.0},
        **{"hr_additional_modules": [], "denoising_strength": 0.7, "hr_second_pass_steps": 0, "clip_skip": 1},
        **{"override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": True},
        **{"save_images": True, "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False},
    }
    answer = await http.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["images"][0]).startswith(b"\x89PNG")
    assert (await http.post("/sdapi/v1/interrupt")).json() == {}


async def test_the_calls_of_librechat(http: httpx.AsyncClient) -> None:
    """Of `api/app/clients/tools/structured/StableDiffusion.js`: its size is fixed, so a model needs to take it."""
    sent = {"prompt": "a fox", "negative_prompt": "blue", "cfg_scale": 4.5, "steps": 22}
    large = await http.post("/sdapi/v1/txt2img", json={**sent, "width": 1024, "height": 1024})
    assert (large.status_code, large.json()["detail"]) == (422, "width is 1024, but must lie between 32 and 256")
    answer = (await http.post("/sdapi/v1/txt2img", json={**sent, **SMALL})).json()
    info = json.loads(answer["info"])
    assert (info["height"], info["width"]) == (64, 64)
    assert info["infotexts"][0].split("\n")[-1].startswith("Steps: 4")
    assert base64.b64decode(answer["images"][0].split(",")[0]).startswith(b"\x89PNG")


async def test_the_calls_of_open_webui(http: httpx.AsyncClient) -> None:
    """Of `backend/open_webui/routers/images.py`: the options come back whole, with another model in them."""
    empty = {"authorization": ""}
    (model, *_) = (await http.get("/sdapi/v1/sd-models", headers=empty)).json()
    assert {"title", "model_name"} <= model.keys()
    options = (await http.get("/sdapi/v1/options", headers=empty)).json()
    options["sd_model_checkpoint"] = model["title"]
    assert (await http.post("/sdapi/v1/options", json=options, headers=empty)).status_code == 200
    data = {"prompt": "a fox", "batch_size": 2, "width": 64, "height": 64, "steps": 4, "negative_prompt": "blue"}
    answer = (await http.post("/sdapi/v1/txt2img", json=data, headers=empty)).json()
    assert len(answer["images"]) == 2
    assert json.loads(answer["info"])["all_negative_prompts"] == ["blue"] * 2


async def test_a_client_that_leaves_leaves_its_job(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/sdapi/v1/txt2img", json={"prompt": "left", **SMALL, "steps": 50}, timeout=0.3)

    async def succeeded() -> bool:
        jobs = (await http.get("/v1/jobs")).json()["jobs"]
        return [job["status"] for job in jobs if job["request"]["prompt"] == "left"] == ["succeeded"]

    assert await eventually(succeeded, 60)


def test_the_document_shows_what_works(gateway_url: str, tmp_path: Path) -> None:
    (code,) = snippets("A1111")
    here = code.replace("http://127.0.0.1:8080", gateway_url).replace("forge-shapes", "tiny")
    shown = subprocess.run([sys.executable, "-c", here], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Steps: 20, Sampler: Euler a" in shown.stdout
    assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")
