"""Tasks for tests, from a flat description: what a request says and what only a runner knows, side by side."""

from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import ControlUse, EmbeddingUse, ImagePromptUse, LoraUse
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage

DIGEST = "0" * 64
#: Four steps of 64 x 64 pixels: what a tiny model does in a blink.
PLAIN = {
    "model_id": "model",
    "preset": "standard",
    "prompt": "a red circle",
    "width_px": 64,
    "height_px": 64,
    "steps": 4,
    "guidance_scale": 3.0,
    "seed": 1,
}


@dataclass(frozen=True)
class LocalLora:
    """A LoRA in a request, and its files."""

    use: LoraUse
    files: ModelFiles


@dataclass(frozen=True)
class LocalControl:
    """A ControlNet with its image in a request, and the files of both."""

    use: ControlUse
    files: ModelFiles
    image: InputImage


@dataclass(frozen=True)
class LocalVae:
    """A VAE in a request, and its files."""

    model_id: str
    files: ModelFiles


@dataclass(frozen=True)
class LocalEmbedding:
    """An embedding in a request, and its file."""

    use: EmbeddingUse
    files: ModelFiles


@dataclass(frozen=True)
class LocalImagePrompt:
    """An IP-Adapter with its image in a request, and the files of both."""

    use: ImagePromptUse
    files: ModelFiles
    image: InputImage


def render_task(**values: Any) -> RenderTask:  # Any: whatever a field takes
    """A task from fields of RenderRequest and of RenderTask.

    `model_path` and `model_digest` name the model's files; `init_image`, `mask_image` and `references` are InputImages,
    `loras` are LocalLoras, `embeddings` LocalEmbeddings, `control` is a LocalControl or several, `vae` a LocalVae,
    `image_prompts` are LocalImagePrompts; `seeds` are consecutive.
    """
    fields: dict[str, Any] = {"task_id": "t", "model_path": ".", "model_digest": DIGEST} | PLAIN | values
    if seeds := fields.pop("seeds", None):
        fields |= {"seed": seeds[0], "images": len(seeds)}
    loras, control, vae = fields.pop("loras", ()), fields.pop("control", ()), fields.pop("vae", None)
    control = (control,) if isinstance(control, LocalControl) else control
    embeddings, shown = fields.pop("embeddings", ()), fields.pop("image_prompts", ())
    images = {name: fields.pop(name) for name in ("init_image", "mask_image") if fields.get(name) is not None}
    references = fields.pop("references", ())
    request = {name: fields.pop(name) for name in RenderRequest.model_fields if name in fields}
    request |= {name: image.sha256 for name, image in images.items()} | {"loras": [lora.use for lora in loras]}
    request |= {"embeddings": [each.use for each in embeddings]}
    request |= {"vae": vae.model_id} if vae else {}
    request |= {"image_prompts": [each.use for each in shown]}
    request |= {"references": tuple(image.sha256 for image in references)}
    used = (*images.values(), *references, *(each.image for each in (*control, *shown)))
    return RenderTask(
        request=RenderRequest.model_validate(request | {"control": [each.use for each in control]}),
        model=ModelFiles(path=fields.pop("model_path"), digest=fields.pop("model_digest")),
        assets={each.use.model_id: each.files for each in (*loras, *control, *embeddings, *shown)}
        | ({vae.model_id: vae.files} if vae else {}),
        inputs={image.sha256: image for image in used},
        **fields,
    )


def changed(task: RenderTask, **values: Any) -> RenderTask:  # Any: see `render_task`
    """The same task with another request."""
    return task.model_copy(update={"request": RenderRequest.model_validate(task.request.model_dump() | values)})


def rendered(renderer: Any, task: RenderTask) -> RenderedImage:
    """The image of a task, whose model is loaded first if it is not. Any: the renderer's module imports torch."""
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image: RenderedImage = renderer.render(task, task.request.seed, lambda *_: None)
    return image
