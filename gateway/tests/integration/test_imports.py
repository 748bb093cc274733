"""`POST /v1/imports`: a picture in, a request out, foreign bytes are read in a process of their own."""

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager

A1111 = (
    "a castle\nNegative prompt: blurry\nSteps: 4, Sampler: Euler a, CFG scale: 2, Seed: 12345, Size: 64x64, "
    "Model hash: 0000000000, Model: m, Version: v1.10.1"
)
COMMENT = {
    "prompt": "a fox",
    "uc": "blur",
    "steps": 4,
    "scale": 2.0,
    "seed": 9,
    "width": 64,
    "height": 64,
    "sampler": "k_euler",
}


def png(**texts: Any) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text if isinstance(text, str) else json.dumps(text))
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def jpeg(comment: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + comment.encode("utf-16-be")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    return out.getvalue()


async def bring(client: httpx.AsyncClient, data: bytes, content_type: str = "image/png") -> httpx.Response:
    return await client.post("/v1/imports", content=data, headers={"Content-Type": content_type})


async def test_a_picture_becomes_a_request_that_is_accepted(client: httpx.AsyncClient) -> None:
    for data, kind in ((png(parameters=A1111), "image/png"), (jpeg(A1111), "image/jpeg")):
        reply = await bring(client, data, kind)
        assert reply.status_code == 200, reply.text
        found = reply.json()
        assert (found["tool"], found["model"]["model_id"], found["model"]["matched_by"]) == ("A1111", "m", "hash")
        assert found["request"] == {
            "prompt": "a castle",
            "negative_prompt": "blurry",
            "steps": 4,
            "guidance_scale": 2.0,
            "seed": 12345,
            "width_px": 64,
            "height_px": 64,
            "model_id": "m",
        }
        assert [each["name"] for each in found["unmapped"]] == ["sampler"]
    accepted = await client.post("/v1/jobs", json=found["request"])
    assert accepted.status_code == 202, accepted.text

    # The same in one gateway: what others write, and what is nothing.
    novel = (await bring(client, png(Software="NovelAI", Source="NovelAI Diffusion V4", Comment=COMMENT))).json()
    assert (novel["tool"], novel["request"]["seed"], novel["model"]["model_id"]) == ("NovelAI", 9, None)
    for data, code in ((png(), "nothing_to_import"), (b"x", "bad_picture"), (png(parameters="{"), "nothing_to_import")):
        refused = await bring(client, data)
        assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    assert (await bring(client, png(), "text/plain")).status_code == 415
    assert (await client.get("/v1/imports")).status_code == 405


@pytest.mark.parametrize("name", ["A1111", "NovelAI"])
def test_another_reader_finds_the_same(name: str) -> None:
    """These texts are as their programs write them: sd-parsers reads the same prompts and sampler."""
    novel = {
        "Title": "NovelAI generated image",
        "Description": "a fox",
        "Software": "NovelAI",
        "Source": "SDXL 7BCCAA2C",
    }
    data = png(parameters=A1111) if name == "A1111" else png(**novel, Comment=COMMENT)
    found = ParserManager().parse(io.BytesIO(data))  # type: ignore[arg-type]  # its protocol leaves out BytesIO
    assert found is not None
    (prompt,) = [each.value for each in found.prompts]
    (sampler,) = [each.name for each in found.samplers]
    assert (prompt, sampler) == (("a castle", "Euler a") if name == "A1111" else ("a fox", "k_euler"))
