"""What A1111's clients read: `info`, progress, and the lists of what there is. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, SamplerName
from dreamforge.contracts.pictures.infotext import infotext
from dreamforge.contracts.pictures.samplers import A1111_SAMPLERS, PLAIN, SAMPLER_ALIASES, a1111_sampler
from dreamforge.contracts.pictures.upscalers import A1111_LATENT_MODES, A1111_RESAMPLERS
from dreamforge.gateway.events.watch import JobEventData
from dreamforge.gateway.facades.a1111.names import Models, pipelines, short_hash, title_of
from dreamforge.gateway.facades.a1111.translate import A1111Request
from dreamforge.gateway.facades.a1111.upscalers import upscalers_in
from dreamforge.gateway.facades.runs import FinishedImage, UnfinishedJob
from dreamforge.gateway.facades.steps import steps_done

Reply = dict[str, Any]  # Any: JSON
#: What A1111 shows of a job that has begun, and no step is known yet.
PROGRESS_MIN = 0.01
TIMESTAMP = "%Y%m%d%H%M%S"
#: The schedules that the samplers here can have: name, label.
SCHEDULERS = {"automatic": "Automatic", PLAIN: "Uniform", "karras": "Karras", "simple": "Simple"}


def info(asked: A1111Request, images: Sequence[FinishedImage], at: datetime) -> str:
    """The JSON text `info` of an answer; without an image, what was asked for."""
    sampler: SamplerName | None = asked.fields.get("sampler")
    recipe: Mapping[str, Any] = images[0].recipe if images else {}  # Any: JSON
    prompt = recipe.get("prompt", asked.fields.get("prompt", ""))
    negative = recipe.get("negative_prompt", asked.fields.get("negative_prompt", ""))
    seeds = [image.seed for image in images]
    told = {
        "prompt": prompt,
        "all_prompts": [prompt] * len(images),
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * len(images),
        "seed": seeds[0] if seeds else asked.fields.get("seed", -1),
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * len(images),
        "subseed_strength": 0,
        "width": images[0].width_px if images else asked.fields.get("width_px"),
        "height": images[0].height_px if images else asked.fields.get("height_px"),
        "sampler_name": a1111_sampler(sampler, recipe.get("sampler", "")).name,
        "cfg_scale": recipe.get("guidance_scale", asked.fields.get("guidance_scale")),
        "steps": recipe.get("steps", asked.fields.get("steps")),
        "batch_size": len(images),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": recipe.get("model_id", asked.fields.get("model_id")),
        "sd_model_hash": str(recipe.get("model_digest", ""))[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": recipe.get("strength") or (recipe.get("upscale") or {}).get("strength"),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [infotext(image.recipe, sampler) for image in images],
        "styles": [],
        "job_timestamp": at.strftime(TIMESTAMP),
        "clip_skip": (recipe.get("clip_skip") or 0) + 1,
        "is_using_inpainting_conditioning": "mask_image" in asked.images,
        "version": "Dream Forge",
    }
    return json.dumps(told)


def progress(jobs: Sequence[UnfinishedJob], steps: Sequence[JobEventData], *, with_image: bool) -> Reply:
    """How far the first of a client's open jobs is; `steps` are its own. All zero where there is no job."""
    last = steps[-1] if steps else None
    done = 0.0
    if last is not None:
        made, total = steps_done(last)
        done = made / total
    preview = next((step["preview"] for step in reversed(steps) if step.get("preview")), None)
    job = jobs[0] if jobs else None
    return {
        "progress": min(max(done, PROGRESS_MIN), 1.0) if jobs else 0.0,
        "eta_relative": last["eta_seconds"] if last is not None and jobs else 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": job.job_id if job else "",
            "job_count": sum(each.images for each in jobs),
            "job_timestamp": job.requested_at.strftime(TIMESTAMP) if job else "0",
            "job_no": last["image_index"] if last is not None and jobs else 0,
            "sampling_step": last["step"] if last is not None and jobs else 0,
            "sampling_steps": last["steps"] if last is not None and jobs else 0,
        },
        "current_image": str(preview).partition(",")[2] if preview and with_image and jobs else None,
        "textinfo": None if job is None or job.running else "waiting for a runner",
    }


def options(model: ModelDescriptor | None) -> Reply:
    """The options that there are; only the first can be set."""
    return {
        "sd_model_checkpoint": title_of(model) if model else None,
        "sd_checkpoint_hash": model.digest if model else "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "live_previews_enable": True,
        "show_progress_every_n_steps": -1,
    }


def sd_models(models: Models) -> list[Reply]:
    """Models that can be a checkpoint. Files are the business of runners, so a file has the model's name."""
    return [
        {
            "title": title_of(model),
            "model_name": model.model_id,
            "hash": short_hash(model),
            "sha256": model.digest,
            "filename": model.model_id,
            "config": None,
        }
        for model in pipelines(models)
    ]


def samplers(models: Models) -> list[Reply]:
    """Samplers that at least one model takes."""
    usable = {name for model in pipelines(models) for name in model.capabilities.samplers}
    names = dict.fromkeys(theirs.name for ours, theirs in A1111_SAMPLERS.items() if ours in usable)
    return [{"name": name, "aliases": list(SAMPLER_ALIASES.get(name, ())), "options": {}} for name in names]


def schedulers() -> list[Reply]:
    """The schedules that the samplers here can have."""
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1, "need_inner_model": False}
        for name, label in SCHEDULERS.items()
    ]


def loras(models: Models) -> list[Reply]:
    """Registered LoRAs: a prompt names them as `<lora:name:weight>`."""
    return [
        {"name": model.model_id, "alias": model.title or model.model_id, "path": model.model_id, "metadata": {}}
        for model in models.values()
        if model.kind == "lora"
    ]


def embeddings(models: Models) -> Reply:
    """Registered embeddings by the words that stand for them, without what only their files say."""
    unknown = dict.fromkeys(("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors"))
    return {"loaded": {each.model_id: unknown for each in models.values() if each.kind == "embedding"}, "skipped": {}}


def vaes(models: Models) -> list[Reply]:
    """Registered VAEs."""
    found = (model for model in models.values() if model.kind == "vae")
    return [{"model_name": model.model_id, "filename": f"{model.model_id}.safetensors"} for model in found]


def upscalers(models: Models) -> list[Reply]:
    """What enlarges pixels: before a second pass, where a model makes one, and upscalers for any image."""
    most = max((model.capabilities.upscale_max for model in pipelines(models)), default=1.0)
    scales: dict[str, float] = dict.fromkeys(A1111_RESAMPLERS if most > 1 else ("None",), most)
    scales |= {model.model_id: float(model.scale or 1) for model in upscalers_in(models)}
    return [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": scale}
        for name, scale in scales.items()
    ]


def latent_upscale_modes(models: Models) -> list[Reply]:
    """What enlarges latents, where a model makes a second pass."""
    some = any(model.capabilities.upscale_max > 1 for model in pipelines(models))
    return [{"name": name} for name in A1111_LATENT_MODES] if some else []


def memory(heartbeats: Iterable[Heartbeat]) -> Reply:
    """The memory of the runners: those that render on a CPU as `ram`, GPUs as `cuda`. In bytes."""
    found = list(heartbeats)
    cuda = _bytes_of([each for each in found if each.device.kind != "cpu"])
    ram = _bytes_of([each for each in found if each.device.kind == "cpu"])
    return {"ram": ram, "cuda": cuda if "error" in cuda else {"system": cuda}}


def _bytes_of(heartbeats: Sequence[Heartbeat]) -> Reply:
    if not heartbeats:
        return {"error": "unavailable"}
    free = sum(each.free_bytes for each in heartbeats)
    total = sum(each.device.total_bytes for each in heartbeats)
    return {"free": free, "used": total - free, "total": total}
