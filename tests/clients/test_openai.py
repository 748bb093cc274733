"""The `openai` package, unmodified: images from prompts and images, streams, errors."""

import base64
import io
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio
from PIL import Image
from system_testkit.live_stack import LiveStack

from dreamforge.runtime.testing import eventually


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def opened(data: str | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data)))


def png(*, hole: bool = False) -> bytes:
    image = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
    if hole:
        image.paste((0, 0, 0, 0), (16, 16, 48, 48))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_images_from_a_prompt_with_the_plain_client(gateway_url: str) -> None:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="none", max_retries=0) as client:
        models = client.models.list().data
        found = client.images.generate(model=models[0].id, prompt="a fox", n=2, size="64x64", quality="low")
        assert client.models.retrieve(models[0].id).id == models[0].id
        assert found.data is not None
        assert [opened(each.b64_json).size for each in found.data] == [(64, 64)] * 2
        linked = client.images.generate(prompt="a fox", size="64x64", response_format="url").data
    assert linked is not None
    assert linked[0].url is not None
    assert httpx.get(linked[0].url).content.startswith(b"\x89PNG")


async def test_other_formats(client: openai.AsyncOpenAI) -> None:
    found = await client.images.generate(prompt="a fox", size="64x64", output_format="webp", output_compression=50)
    assert found.data is not None
    assert opened(found.data[0].b64_json).format == "WEBP"
    assert found.output_format == "webp"


async def test_a_stream_ends_with_the_image(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.generate(prompt="a fox", size="64x64", stream=True, partial_images=2)
    events = [event async for event in stream]
    assert events[-1].type == "image_generation.completed"
    assert {event.type for event in events[:-1]} <= {"image_generation.partial_image"}
    assert opened(events[-1].b64_json).size == (64, 64)


async def test_an_edit_and_a_variation(client: openai.AsyncOpenAI) -> None:
    image, mask = ("a.png", png(), "image/png"), ("m.png", png(hole=True), "image/png")
    for found in (
        await client.images.edit(image=image, mask=mask, prompt="a hole", size="64x64"),
        await client.images.edit(image=[image], prompt="another colour", size="64x64"),
        await client.images.create_variation(image=image, n=1, size="64x64"),  # type: ignore[arg-type]
    ):
        assert found.data is not None
        assert opened(found.data[0].b64_json).size == (64, 64)


async def test_errors_are_those_of_the_client(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as unknown:
        await client.images.generate(model="dall-e-3", prompt="a fox")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError) as many:
        await client.images.generate(prompt="a fox", n=10_000)
    assert many.value.param == "n"
    with pytest.raises(openai.UnprocessableEntityError) as opaque:
        await client.images.edit(image=("a.png", png()), mask=("m.png", png()), prompt="a fox")
    assert "transparent" in opaque.value.message
    with pytest.raises(openai.APIStatusError) as several:
        await client.images.edit(image=[("a.png", png()), ("b.png", png())], prompt="a fox")
    assert "one image is edited" in several.value.message


async def test_who_gives_up_cancels_the_job(client: openai.AsyncOpenAI, stack: LiveStack) -> None:
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.5).images.generate(
            prompt="given up", size="64x64", extra_body={"steps": 100, "images": 4}
        )

    async def cancelled() -> bool:
        jobs = (await stack.client.get("/v1/jobs")).json()["jobs"]
        return [job["status"] for job in jobs if job["request"]["prompt"] == "given up"] == ["cancelled"]

    assert await eventually(cancelled, 30)
