"""A word that stands for an embedding means its vectors, in every prompt, and leaves no trace in the next image.

An embedding that is made of the vectors of a word is that word: images with either are the same, to the last bit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import LocalEmbedding, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import EmbeddingUse, Upscale
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, TaskImage
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed

pytestmark = pytest.mark.torch
ENCODERS = {"clip_l": "", "clip_g": "_2"}


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    """Tiny pipelines, to read the vectors of words from. Any: their classes have no types."""
    from runner_testkit.families import build_family

    return {family: build_family(family) for family in ("stable-diffusion", "sdxl")}


def embedding_of(pipeline: Any, folder: Path, word: str, name: str) -> LocalEmbedding:
    """An embedding of the vectors that a word has."""
    from safetensors.torch import save_file

    tensors = {
        key: getattr(pipeline, f"text_encoder{end}").get_input_embeddings().weight[ids].detach().clone()
        for key, end in ENCODERS.items()
        if (tokenizer := getattr(pipeline, f"tokenizer{end}", None)) is not None
        and (ids := tokenizer(word, add_special_tokens=False).input_ids)
    }
    assert len(next(iter(tensors.values()))) > 1, "several vectors"
    tensors = tensors if len(tensors) > 1 else {"emb_params": tensors["clip_l"]}
    save_file(tensors, folder / f"{name}.safetensors")
    files = ModelFiles(path=str(folder / f"{name}.safetensors"), digest="5" * 64)
    return LocalEmbedding(EmbeddingUse(model_id=name, word=name), files)


def task_of(renderer: Any, folder: Path, **values: Any) -> Any:
    task = render_task(model_id=folder.name, model_path=str(folder), steps=1, **values)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    return task


def render(renderer: Any, folder: Path, prompt: str, **values: Any) -> bytes:
    task = task_of(renderer, folder, prompt=prompt, **values)
    rows: bytes = renderer.render(task, 1, lambda step, of, preview=None: None).scanlines
    return rows


def second_pass(prompt: str) -> Upscale:
    return Upscale(width_px=128, height_px=128, strength=1.0, prompt=prompt)


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl"])
def test_an_embedding_of_the_vectors_of_a_word_is_that_word(
    renderer: Any, cache: Path, tmp_path: Path, pipelines: dict[str, Any], family: str
) -> None:
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    easy, fox = (
        embedding_of(pipelines[family], tmp_path, word, name) for word, name in (("blue", "easy"), ("fox", "Fx"))
    )
    before = render(renderer, folder, "an easy fx")
    cases: Sequence[tuple[str, dict[str, str]]] = [
        ("an embedding:Easy fx.", {"negative_prompt": "easy"}),
        ("an (easy:1.3) [Fx] on (a fx:0.7)", {"prompt_syntax": "weighted", "negative_prompt": "(EASY)"}),
        (f"a fx {'and so on ' * 12} an easy", {}),
    ]
    for prompt, more in cases:
        words = {"Easy": "blue", "easy": "blue", "EASY": "blue", "fx": "fox", "Fx": "fox", "embedding:": ""}
        plain = {"prompt": prompt} | more
        for word, meant in words.items():
            plain = {n: text if n == "prompt_syntax" else text.replace(word, meant) for n, text in plain.items()}
        expected = render(renderer, folder, **plain)
        assert render(renderer, folder, prompt, **more) != expected, "without it the word means something else"
        assert render(renderer, folder, prompt, embeddings=(easy, fox), **more) == expected
    with_second = {"upscale": second_pass("an easy hill"), "embeddings": (easy,)}
    expected = render(renderer, folder, "a hill", upscale=second_pass("an blue hill"))
    assert render(renderer, folder, "a hill", **with_second) == expected
    assert render(renderer, folder, "an easy fx") == before


def test_images_with_embeddings_are_rendered_together(
    renderer: Any, cache: Path, tmp_path: Path, pipelines: dict[str, Any]
) -> None:
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, "stable-diffusion")
    easy = embedding_of(pipelines["stable-diffusion"], tmp_path, "blue", "easy")

    def together(embeddings: tuple[LocalEmbedding, ...], *prompts: str) -> list[bytes]:
        tasks = [task_of(renderer, folder, prompt=each, embeddings=embeddings, task_id=each) for each in prompts]
        images = renderer.render_together([TaskImage(task, 0) for task in tasks], lambda step, of, previews: None)
        return [image.scanlines for image in images]

    assert together((easy,), "an easy hill", "a hill") == together((), "an blue hill", "a hill")


def test_an_embedding_of_other_encoders_is_refused_by_name(
    renderer: Any, cache: Path, tmp_path: Path, pipelines: dict[str, Any]
) -> None:
    from runner_testkit.families import ensure_family

    easy = embedding_of(pipelines["sdxl"], tmp_path, "blue", "easy")
    for family in ("stable-diffusion", "flux"):
        with pytest.raises(
            RenderFailed, match=r"embedding easy does not fit tiny-.*text_encoder_2 of width"
        ) as refused:
            render(renderer, ensure_family(cache, family), "easy", embeddings=(easy,))
        assert refused.value.reason is FailureReason.INVALID_REQUEST
