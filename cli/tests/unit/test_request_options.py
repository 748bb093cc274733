"""Option values become fields of a submission, or an error that shows the format."""

from pathlib import Path

import httpx
import pytest

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.request_options import control, image, image_prompts, loras
from dreamforge.cli.settings import CliSettings

SETTINGS = CliSettings(_env_file=None, gateway_url="http://gateway")


def gateway(asked: list[httpx.Request]) -> GatewayClient:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json={"sha256": "a" * 64})

    return GatewayClient(SETTINGS, lambda _text: None, httpx.MockTransport(answer))


async def test_an_image_is_uploaded_with_the_type_of_its_content(tmp_path: Path) -> None:
    fox, asked = tmp_path / "fox.PNG", list[httpx.Request]()
    fox.write_bytes(b"\xff\xd8\xffjpeg")
    async with gateway(asked) as client:
        assert await image(client, fox) == "a" * 64
        assert await control(client, ["canny:0.7", "depth,end=0.5"], [fox, fox]) == {
            "control": [
                {"model_id": "canny", "scale": 0.7, "image": "a" * 64},
                {"model_id": "depth", "end": 0.5, "image": "a" * 64},
            ]
        }
        assert await image_prompts(client, [f"plus:0.6,end=0.5,image={fox}"]) == {
            "image_prompts": [{"model_id": "plus", "scale": 0.6, "end": 0.5, "image": "a" * 64}]
        }
    (first, *_) = asked
    assert (first.url.path, first.headers["content-type"], first.content) == (
        "/v1/uploads",
        "image/jpeg",
        b"\xff\xd8\xffjpeg",
    )


@pytest.mark.parametrize(("name", "message"), [("fox.txt", "is not an image"), ("no.png", "cannot read")])
async def test_a_file_that_is_not_an_image_is_refused_before_a_request(tmp_path: Path, name: str, message: str) -> None:
    asked: list[httpx.Request] = []
    (tmp_path / "fox.txt").write_text("a fox")
    async with gateway(asked) as client:
        with pytest.raises(CommandError, match=message):
            await image(client, tmp_path / name)
        with pytest.raises(CommandError, match="belong together"):
            await control(client, ["canny"], None)
        with pytest.raises(CommandError, match="canny,end"):
            await control(client, ["canny,end"], [tmp_path / "fox.txt"])
        with pytest.raises(CommandError, match="--image-prompt is 'plus'"):
            await image_prompts(client, ["plus"])
    assert not asked


async def test_an_artifact_is_named_and_not_uploaded() -> None:
    job_id = "01a20638-499f-7288-a6c2-5e668ec21e03"
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, json={"artifacts": [{"artifact_id": f"{job_id}-1-0", "sha256": "b" * 64}]})

    async with GatewayClient(SETTINGS, lambda _text: None, httpx.MockTransport(answer)) as client:
        assert await image(client, Path(f"{job_id}-1-0")) == "b" * 64
        with pytest.raises(CommandError, match="no artifact") as refused:
            await image(client, Path(f"{job_id}-2-0"))
    assert refused.value.facts == {"its artifacts": f"{job_id}-1-0"}
    assert asked == [f"GET /v1/jobs/{job_id}"] * 2


def test_a_weight_that_is_not_a_number_is_refused_with_the_format() -> None:
    with pytest.raises(CommandError, match="ink:much") as refused:
        loras(["ink:much"])
    assert "ink:0.8" in refused.value.hint
